"""The page about two runs that were scored on the same images."""

import operator
from collections.abc import Callable, Sequence

from inspire_d2.engine.run_folder import run_names
from inspire_d2.errors import InputError
from inspire_d2.report import about
from inspire_d2.report.blocks import Card, Figure, Gallery, Page, Section, Text
from inspire_d2.report.cards import picture, row_id
from inspire_d2.report.cases import Case
from inspire_d2.report.intervals import ratio_interval
from inspire_d2.report.pairing import Pair, pair_cases
from inspire_d2.report.pictures import overlay, photo
from inspire_d2.report.plots import Point, scatter, size_bars
from inspire_d2.report.sections import calibration_section, setup_section, training_section
from inspire_d2.report.sizes import COCO_SIZES, POLYP_SIZES, count_by_size
from inspire_d2.report.subject import Subject
from inspire_d2.report.tables import Cell, Table, number, percent, plain_table
from inspire_d2.report.truth import test_set_names
from inspire_d2.report.volumes import compare_volumes, difference_cells

__all__ = ["compare"]

SHOWN = 10  # cases in which either run leads
# Tasks of evaluation.json whose metrics are fractions 0..1, others are in percent
FRACTIONS = ("polyp", "polyp_protocol", "volume")


def compare(ours: Subject, theirs: Subject) -> Page:
    """Lay out the page; differences are the first run less the second.

    Raises:
        InputError: the runs have neither images nor metrics in common.
    """
    _tell_apart(ours, theirs)
    page = Page(
        f"{ours.name} and {theirs.name}",
        "Comparison of two runs",
        [f"{one.name}: {about.headline(one)}" for one in (ours, theirs)],
    )
    for one in (ours, theirs):
        notes = [*one.notes, *about.data_table(one)[1]]
        page.notes += [f"{one.name}: {note}" for note in notes]
    pairs = pair_cases(ours.cases, theirs.cases)
    metrics = _metrics_table(ours, theirs, same_set=_is_same_set(pairs, ours, theirs))
    volumes = compare_volumes(ours, theirs)
    if not (pairs or metrics or volumes):
        raise InputError(
            f"{ours.run.folder} and {theirs.run.folder} have nothing to compare: no image, volume "
            "or metric that both were scored on."
        )
    most = max(len(ours.cases), len(theirs.cases))
    if pairs and len(pairs) < most:
        page.notes.append(f"Compared on the {len(pairs)} images that both runs were scored on.")
    if pairs and ours.run.threshold != theirs.run.threshold:
        page.notes.append(
            f"Predictions count from another score, {_thresholds(ours, theirs)}: figures may "
            "differ by that alone."
        )
    if pairs:
        page.key_table = _key_table(pairs, ours, theirs)
    elif not volumes:
        page.notes.append("The runs have no case in common: only their own figures are compared.")
    if volumes:
        page.sections.append(volumes)
    figures = Section("figures", "All figures", [metrics] if metrics else [])
    if not pairs:
        page.sections.append(figures)
    else:
        page.sections += [
            _errors(pairs, ours, theirs),
            _pictures(pairs, ours, theirs),
            figures,
            calibration_section({one.name: one.calibration for one in (ours, theirs)}),
            Section("images", "Every image", [_image_table(pairs, ours, theirs)]),
        ]
    page.sections += [training_section([ours, theirs]), setup_section([ours, theirs])]
    page.sections = [section for section in page.sections if section.blocks]
    return page


def _tell_apart(ours: Subject, theirs: Subject) -> None:
    """Name runs whose folders have one name by as many of the folders above as tell them apart."""
    if ours.name != theirs.name:
        return
    ours.run.name, theirs.run.name = run_names([ours.run.folder, theirs.run.folder])
    if ours.name == theirs.name:
        theirs.run.name += " (again)"


def _is_same_set(pairs: Sequence[Pair], ours: Subject, theirs: Subject) -> bool:
    """Whether both were scored on the same cases; on sets of one name where no cases are known."""
    if not all(one.cases or one.volumes for one in (ours, theirs)):
        return test_set_names(ours.run.cfg) == test_set_names(theirs.run.cfg)
    volumes = [
        {(row["case"], row["region"], row["true_voxels"]) for row in one.volumes}
        for one in (ours, theirs)
    ]
    return len(pairs) == len(ours.cases) == len(theirs.cases) and volumes[0] == volumes[1]


def _key_table(pairs: Sequence[Pair], ours: Subject, theirs: Subject) -> Table:
    positives = [pair for pair in pairs if pair[0].num_true]
    negatives = [pair for pair in pairs if pair[0].is_negative]
    means: list[tuple[str, Sequence[Pair], Callable[[Case], float], bool]] = []
    if _both_polyps(ours, theirs):
        means.append(("Dice", positives, lambda case: case.dice, True))
        means.append(("IoU", positives, lambda case: case.iou, True))
    else:
        means.append(("F1 of an image", positives, lambda case: case.f1, True))
    means.append(("images without objects, left clean", negatives, _is_clean, True))
    means.append(("false positives per image", pairs, lambda case: case.num_false, False))
    rows = []
    for name, chosen, value, more_is_better in means:
        if chosen:
            left, right = ([value(pair[k]) for pair in chosen] for k in (0, 1))
            cells = difference_cells(left, right)
            rows.append([name, *(cells if more_is_better else map(_turned, cells))])
    if positives:
        things = "polyps" if _both_polyps(ours, theirs) else "objects"
        rows.insert(1, [f"{things} found", *_found_cells(positives)])
    return plain_table(
        ["figure", ours.name, theirs.name, "difference", "95 % interval"],
        rows,
        f"On the same {len(pairs)} images, score {_thresholds(ours, theirs)}",
        note="Intervals: paired percentile bootstrap over images; one that leaves out 0 is in "
        "colour. They do not cover another training's seed, and images of one patient or sequence "
        "resemble each other: the true uncertainty is larger.",
    )


def _thresholds(ours: Subject, theirs: Subject) -> str:
    """Say from which score predictions count; both runs' where they differ."""
    least = [f"{one.run.threshold:g} or more" for one in (ours, theirs)]
    if least[0] == least[1]:
        return least[0]
    return f"{least[0]} of {ours.name}, {least[1]} of {theirs.name}"


def _is_clean(case: Case) -> float:
    return float(not case.num_predicted)


def _turned(one: Cell) -> Cell:
    """Return a cell where less is better."""
    return one._replace(tone={"good": "bad", "bad": "good"}.get(one.tone, ""))


def _found_cells(positives: Sequence[Pair]) -> list[Cell]:
    """Return the shares found: both have one denominator, so the difference is a ratio as well."""
    total = [a.num_true for a, _ in positives]
    difference = ratio_interval([a.num_found - b.num_found for a, b in positives], total)
    shares = [sum(pair[k].num_found for pair in positives) / sum(total) for k in (0, 1)]
    clear = difference.low > 0 or difference.high < 0
    tone = ("good" if difference.value > 0 else "bad") if clear else ""
    bounds = difference.bounds("{:+.3f}".format) or "-"
    return [
        *map(number, shares),
        Cell(f"{difference.value:+.3f}", difference.value, tone=tone),
        Cell(bounds, difference.low),
    ]


def _metrics_table(ours: Subject, theirs: Subject, *, same_set: bool) -> Table | None:
    """Lay the metrics of both runs' evaluation.json side by side."""
    rows = []
    for task, metrics in ours.evaluation.items():
        decimals = 3 if task in FRACTIONS else 2
        for name, left in metrics.items():
            right = theirs.evaluation.get(task, {}).get(name)
            if left is None or right is None:
                continue
            shown = [number(value, decimals) for value in (left, right)]
            gap = left - right
            rows.append([f"{task} {name}", *shown, Cell(f"{gap:+.{decimals}f}", gap)])
    if not rows:
        return None
    head = ["metric", ours.name, theirs.name, "difference"]
    note = "Each run's evaluation.json: bbox, segm and other tasks of COCO in percent."
    if not same_set:
        note += " The runs were not scored on the same set: each has the figures of its own."
    return plain_table(head, rows, "All figures of both", note=note, sortable=len(rows) > 12)


def _score(ours: Subject, theirs: Subject) -> Callable[[Case], float]:
    """Return what cases of both runs are compared by: Dice where both have it, else F1."""
    return operator.attrgetter("dice" if _both_polyps(ours, theirs) else "f1")


def _errors(pairs: Sequence[Pair], ours: Subject, theirs: Subject) -> Section:
    section = Section("errors", "Where they differ")
    polyps = _both_polyps(ours, theirs)
    value = _score(ours, theirs)
    points = [
        Point(
            value(b),
            value(a),
            f"{a.item.name}: {ours.name} {value(a):.3f}, {theirs.name} {value(b):.3f}",
            f"#{row_id(a)}",
        )
        for a, b in pairs
        if a.num_true
    ]
    score = "Dice" if polyps else "F1"
    svg = scatter(
        points,
        x=f"{score}, {theirs.name}",
        y=f"{score}, {ours.name}",
        label=f"{score} of each image in both runs",
        diagonal=True,
    )
    section.add(Figure(svg, f"Each dot is an image; above the line {ours.name} leads."))
    if all(case.detailed for pair in pairs for case in pair):
        sizes = POLYP_SIZES if polyps else COCO_SIZES
        counts = [count_by_size([pair[k] for pair in pairs], sizes) for k in (0, 1)]
        for kind, what in (("missed", "missed"), ("false", "false positives")):
            groups = {
                one.name: getattr(count, kind)
                for one, count in zip((ours, theirs), counts, strict=True)
            }
            svg = size_bars(sizes.names, groups, x=sizes.unit, y=what, label=f"{what} by size")
            section.add(Figure(svg, f"Objects {what} by size." if kind == "missed" else
                               "False positives by size."))  # fmt: skip
    return section


def _pictures(pairs: Sequence[Pair], ours: Subject, theirs: Subject) -> Section:
    section = Section("cases", "Cases that differ most")
    pairs = [pair for pair in pairs if all(case.detailed for case in pair) and pair[0].num_true]
    value = _score(ours, theirs)
    pairs = sorted(pairs, key=lambda pair: value(pair[0]) - value(pair[1]))
    unread = 0
    for title, chosen in (
        (f"{ours.name} leads", [p for p in reversed(pairs) if value(p[0]) > value(p[1])][:SHOWN]),
        (f"{theirs.name} leads", [p for p in pairs if value(p[0]) < value(p[1])][:SHOWN]),
    ):
        cards = [card for pair in chosen if (card := _card(pair, ours, theirs))]
        unread += len(chosen) - len(cards)
        if cards:
            section.add(Gallery(title, f"Left {ours.name}, right {theirs.name}.", cards))
    if unread:
        section.add(Text(f"The pictures of {unread} more cases are not at hand."))
    if section.blocks:
        text = "Of the images with an object. Green: the ground truth's outline; blue: predictions."
        section.blocks.insert(0, Text(text))
    return section


def _card(pair: Pair, ours: Subject, theirs: Subject) -> Card | None:
    item = pair[0].item
    pixels = photo(item)
    if pixels is None:
        return None
    pictures, lines = [], []
    for case, subject in zip(pair, (ours, theirs), strict=True):
        drawn = overlay(pixels, item.things, case.predicted, item)
        pictures.append(picture(drawn, f"{item.name}, predictions of {subject.name}"))
        polyps = _both_polyps(ours, theirs)
        score = f"Dice {case.dice:.3f}" if polyps else f"F1 {case.f1:.2f}"
        found = f"{case.num_found} of {case.num_true} found, {case.num_false} false"
        lines.append(f"{subject.name}: {score}, {found}")
    return Card(item.name, f"#{row_id(pair[0])}", lines, pictures)


def _image_table(pairs: Sequence[Pair], ours: Subject, theirs: Subject) -> Table:
    """List the images, those in which the first run falls behind most at the top."""
    score = "Dice" if _both_polyps(ours, theirs) else "F1"
    centres = any(a.item.centre for a, _ in pairs)
    names = (ours.name, theirs.name)
    head = ["image", *(["centre"] if centres else []), *(f"{score}, {name}" for name in names)]
    head += ["difference", "objects"]
    head += [f"{what}, {name}" for what in ("found", "false positives") for name in names]
    sized = all(a.item.width for a, _ in pairs)
    head += ["truth, % of image"] if sized else []
    rows, ids = [], []
    value = _score(ours, theirs)
    for a, b in sorted(pairs, key=lambda pair: value(pair[0]) - value(pair[1])):
        gap = value(a) - value(b)
        row = [a.item.name, *([a.item.centre] if centres else [])]
        row += [number(value(a)), number(value(b)), Cell(f"{gap:+.3f}", gap), a.num_true]
        row += [a.num_found, b.num_found, a.num_false, b.num_false]
        rows.append([*row, *([percent(a.truth_share, 2)] if sized else [])])
        ids.append(row_id(a))
    return plain_table(head, rows, "Every image", sortable=True, ids=ids)


def _both_polyps(ours: Subject, theirs: Subject) -> bool:
    return ours.run.has_polyps and theirs.run.has_polyps
