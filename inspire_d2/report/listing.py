"""Tables with a row for each image, and for each object missed."""

from collections.abc import Sequence

from inspire_d2.evaluation.polyp_match import FOUND_IOU
from inspire_d2.report.cards import namer, row_id
from inspire_d2.report.cases import Case, overlap
from inspire_d2.report.sizes import pixels_of
from inspire_d2.report.subject import Subject
from inspire_d2.report.tables import Cell, Table, number, percent, plain_table

__all__ = ["image_table", "missed_table"]

MOST = 500  # rows of objects missed: of large sets thousands are


def image_table(subject: Subject) -> Table:
    """List the images, the worst first, those without an object at the end."""
    cases = sorted(subject.cases, key=lambda case: (not case.num_true, case.score))
    centres = any(case.item.centre for case in cases)
    things = "polyps" if subject.run.has_polyps else "objects"
    scores = ["Dice", "IoU"] if subject.run.has_polyps else ["F1"]
    sized = all(case.item.width for case in cases)
    head = ["image", *(["centre"] if centres else []), *scores, things, "found"]
    head += ["false positives", "truth, % of image" if sized else "truth, pixels"]
    rows = []
    for case in cases:
        values = [case.dice, case.iou] if subject.run.has_polyps else [case.f1]
        size = percent(case.truth_share, 2) if sized else Cell(f"{case.truth_pixels:.0f}")
        size = size._replace(value=float(case.truth_share if sized else case.truth_pixels))
        rows.append(
            [
                case.item.name,
                *([case.item.centre] if centres else []),
                *map(number, values),
                case.num_true,
                case.num_found,
                case.num_false,
                size,
            ]
        )
    note = (
        f"Predictions of score {subject.run.threshold:g} or more. Found: with an IoU of "
        f"{FOUND_IOU:g} or more, each by a prediction of its own. An image without anything to "
        "find or found counts 1."
    )
    ids = [row_id(case) for case in cases]
    return plain_table(head, rows, "Every image", note=note, sortable=True, ids=ids)


def missed_table(subject: Subject) -> Table | None:
    """List the objects that no prediction found, the largest first."""
    name = namer(subject)
    missed = [(thing, case) for case in subject.cases for thing in case.missed]
    if not missed:
        return None
    missed.sort(key=lambda pair: -pixels_of(pair[0]))
    several = subject.truth is not None and len(subject.truth.categories) > 1
    centres = any(case.item.centre for _, case in missed)
    things = "polyps" if subject.run.has_polyps else "objects"
    head = ["image", *(["class"] if several else []), *(["centre"] if centres else [])]
    head += ["size, % of image", "best IoU of a prediction"]
    rows = []
    for thing, case in missed[:MOST]:
        size = pixels_of(thing) / (case.item.width * case.item.height)
        row = [Cell(case.item.name, link=f"#{row_id(case)}")]
        row += [Cell(name(thing))] if several else []
        row += [Cell(case.item.centre or "")] if centres else []
        rows.append([*row, percent(size, 2), number(_best_iou(case, [thing]), 2)])
    more = f" The {MOST} largest are listed." if len(missed) > MOST else ""
    total = sum(case.num_true for case in subject.cases)
    caption = f"{len(missed)} of {total} {things} missed"
    note = f"A prediction of score {subject.run.threshold:g} or more with an IoU below "
    note += f"{FOUND_IOU:g} does not find it, nor one that has found another.{more}"
    return plain_table(head, rows, caption, note=note, sortable=True, folded=True)


def _best_iou(case: Case, true: Sequence) -> float:
    with_masks = all(one.mask is not None for one in [*case.predicted, *true])
    return float(overlap(case.predicted, true, with_masks).max(initial=0))
