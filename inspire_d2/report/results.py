"""The figures of a run: those that are read first, and the tables of all."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from inspire_d2.evaluation.polyp_tables import NOTES, PROTOCOL_FIGURES, tabulate
from inspire_d2.report.cases import Case
from inspire_d2.report.intervals import Interval, ratio_interval
from inspire_d2.report.subject import Subject
from inspire_d2.report.tables import Cell, Table, number, percent, plain_table

__all__ = ["KeyFigure", "key_figures", "result_tables"]

AP_TASKS = {"bbox": "boxes", "segm": "masks"}
AP_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Fractions 0..1 that are shown in percent; the rest are not.
IN_PERCENT = ("recall", "specificity")
EXPLAINED = {
    "Dice": "mean over images with polyps",
    "IoU": "mean over images with polyps",
    "recall": "at an IoU of 0.5 or more",
    "specificity": "images without polyps, with nothing predicted",
    "fp_per_image": "predictions that match no polyp, per image",
    "Dice_all": "mean over images with polyps and without",
}
MANY = 20  # classes, whose table is folded
SHOWN = {"recall": "polyps found", "fp_per_image": "false positives per image"}


class KeyFigure(NamedTuple):
    """A figure that is read first; the interval may be missing."""

    name: str
    text: str
    interval: str
    meaning: str


def key_figures(subject: Subject) -> list[KeyFigure]:
    """Choose the figures that sum a run up, with intervals over images where cases are known."""
    return [*_case_figures(subject), *_ap_figures(subject), *_other_figures(subject)]


def _case_figures(subject: Subject) -> list[KeyFigure]:
    intervals = case_intervals(subject.cases)
    scored = subject.evaluation.get("polyp", {})
    things = "polyps" if subject.run.has_polyps else "objects"
    figures = []
    for name in ("Dice", "recall", "fp_per_image", "specificity"):
        interval = intervals.get(name)
        value = interval.value if interval else scored.get(name)
        if value is None:
            continue
        decimals = 1 if name in IN_PERCENT else 3 if name == "Dice" else 2
        show = partial(_shown, percent if name in IN_PERCENT else number, decimals)
        bounds = interval.bounds(show) if interval else ""
        title, meaning = (
            text.replace("polyp", things.removesuffix("s"))
            for text in (SHOWN.get(name, name), EXPLAINED[name])
        )
        figures.append(KeyFigure(title, show(value), bounds, meaning))
    return figures


def _shown(as_cell: Callable[[float, int], Cell], decimals: int, value: float) -> str:
    return as_cell(value, decimals).text


def _ap_figures(subject: Subject) -> list[KeyFigure]:
    figures = []
    for task, kind in (("segm", "mask"), ("bbox", "box")):
        for metric, meaning in (("AP", "mean over IoU 0.50 to 0.95"), ("AP50", "at an IoU of 0.5")):
            value = subject.evaluation.get(task, {}).get(metric)
            if value is not None:
                figures.append(KeyFigure(f"{kind} {metric}", f"{value:.1f}", "", meaning))
    return figures


def _other_figures(subject: Subject) -> list[KeyFigure]:
    figures = []
    for task, metric in (("panoptic_seg", "PQ"), ("sem_seg", "mIoU")):
        value = subject.evaluation.get(task, {}).get(metric)
        if value is not None:
            figures.append(KeyFigure(metric, f"{value:.1f}", "", task))
    metrics = subject.evaluation.get("volume", {})
    if metrics.get("Dice") is not None:
        figures.append(KeyFigure("Dice", f"{metrics['Dice']:.3f}", "", "mean of the regions"))
    patients: dict[str, dict[str, list[float]]] = {}
    for row in subject.volumes:
        mine = patients.setdefault(row["region"], {}).setdefault(row["patient"], [])
        mine.append(row["dice"])
    for region, by_patient in patients.items():
        means = [sum(values) / len(values) for values in by_patient.values()]
        interval = ratio_interval(means, [1] * len(means))
        bounds = interval.bounds("{:.3f}".format)
        distance = metrics.get(f"{region} HD95")
        meaning = "mean over patients" + (f"; HD95 {distance:.1f} mm" if distance else "")
        figures.append(KeyFigure(f"{region}, Dice", f"{interval.value:.3f}", bounds, meaning))
    return figures


def case_intervals(cases: Sequence[Case]) -> dict[str, Interval]:
    """Return the figures of PolypEvaluator that cases give, each with its interval over images."""
    positives = [case for case in cases if case.num_true]
    negatives = [case for case in cases if case.is_negative]
    ratios = {
        "Dice": [(case.dice, 1) for case in positives if case.dice is not None],
        "IoU": [(case.iou, 1) for case in positives if case.iou is not None],
        "recall": [(case.num_found, case.num_true) for case in positives],
        "specificity": [(not case.num_predicted, 1) for case in negatives],
        "fp_per_image": [(case.num_false, 1) for case in cases],
    }
    found = {
        name: ratio_interval(*zip(*pairs, strict=True)) for name, pairs in ratios.items() if pairs
    }
    return {name: interval for name, interval in found.items() if interval}


def result_tables(subject: Subject) -> list[Table]:
    """Lay out all figures of a run's scoring."""
    tables = []
    if subject.run.has_polyps and (subject.cases or "polyp" in subject.evaluation):
        tables.append(_polyp_table(subject))
        tables += _centre_tables(subject)
    tables += _protocol_tables(subject)
    tables += _ap_tables(subject)
    known = {"polyp", "polyp_protocol", "volume", *AP_TASKS}
    for task, metrics in subject.evaluation.items():
        if task not in known:
            rows = [(name, number(value, 2)) for name, value in metrics.items()]
            tables.append(plain_table(["metric", "value"], rows, task, sortable=len(rows) > 8))
    return tables


def _polyp_table(subject: Subject) -> Table:
    intervals = case_intervals(subject.cases)
    rows = []
    scored = subject.evaluation.get("polyp", {})
    for name in ("Dice", "IoU", "recall", "specificity", "fp_per_image"):
        interval = intervals.get(name)
        value = number(interval.value if interval else scored.get(name))
        bounds = interval.bounds("{:.3f}".format) if interval else ""
        rows.append((SHOWN.get(name, name), value, bounds, EXPLAINED[name]))
    return plain_table(
        ["figure", "value", "95 % interval", "meaning"],
        rows,
        f"Polyps, predictions of score {subject.run.threshold:g} or more",
        note="Intervals: percentile bootstrap over images, 2000 resamples. Images of one patient "
        "or sequence resemble each other, so the true uncertainty is larger; it says nothing of "
        "another training's seed.",
    )


def _centre_tables(subject: Subject) -> list[Table]:
    rows = [_as_row(case) for case in subject.cases]
    lines = tabulate(rows) if rows else []
    if len(lines) < 3:  # one centre, or none known: the line of all says the same
        return []
    names = ("Dice", "IoU", "recall", "specificity", "fp_per_image")
    body = [
        [
            line["centre"],
            *(line[name] for name in ("images", "positives", "negatives")),
            *(number(line[name]) for name in names),
        ]
        for line in lines
    ]
    head = ["centre", "images", "with polyps", "without"]
    note = (
        "Dice, IoU and polyps found: of images with polyps. Specificity: of images without. The "
        "row all is of all images together, not the mean of the others."
    )
    return [plain_table([*head, *(SHOWN.get(n, n) for n in names)], body, "By centre", note=note)]


def _as_row(case: Case) -> dict[str, object]:
    """Return a case as PolypEvaluator has it."""
    centre = {} if case.item.centre is None else {"centre": case.item.centre}
    return {
        "num_gt": case.num_true,
        "num_pred": case.num_predicted,
        "found": case.num_found,
        "false_positives": case.num_false,
        "dice": case.dice,
        "iou": case.iou,
        "crowd_pixels": case.has_crowd,  # whether, not how many
        **centre,
    }


def _protocol_tables(subject: Subject) -> list[Table]:
    figures = subject.evaluation.get("polyp_protocol")
    if not figures:
        return []
    names = [name for name in PROTOCOL_FIGURES if name in figures]
    row = [number(figures[name]) for name in names]
    return [plain_table(names, [row], "PraNet's protocol", note=NOTES[1])]


def _ap_tables(subject: Subject) -> list[Table]:
    tasks = {key: name for key, name in AP_TASKS.items() if key in subject.evaluation}
    if not tasks:
        return []
    rows = [
        [name, *(number(subject.evaluation[key].get(metric), 1) for metric in AP_METRICS)]
        for key, name in tasks.items()
    ]
    tables = [
        plain_table(
            ["AP of", *AP_METRICS],
            rows,
            "COCO average precision, percent",
            note="AP: mean over IoU thresholds 0.50 to 0.95; s, m, l: objects below 32², below 96² "
            "and above, in pixels. A dash: there is no object of that size.",
        )
    ]
    classes = [key[3:] for key in subject.evaluation[next(iter(tasks))] if key.startswith("AP-")]
    if len(classes) > 1:
        tables.append(_class_table(subject, tasks, classes))
    return tables


def _class_table(subject: Subject, tasks: dict[str, str], classes: list[str]) -> Table:
    objects: Counter[str] = Counter()
    if subject.truth:
        objects.update(
            subject.truth.categories.get(thing.category, "")
            for item in subject.truth.items.values()
            for thing in item.things
            if not thing.crowd
        )
    rows = []
    for name in classes:
        aps = [number(subject.evaluation[task].get(f"AP-{name}"), 1) for task in tasks]
        rows.append([name, *([objects[name]] if subject.truth else []), *aps])
    head = ["class", *(["objects"] if subject.truth else []), *(f"AP, {t}" for t in tasks.values())]
    return plain_table(
        head, rows, "AP of each class, percent", sortable=True, folded=len(rows) > MANY
    )
