"""Objects and false positives by their size."""

from collections.abc import Sequence
from typing import NamedTuple

import pycocotools.mask as mask_util

from inspire_d2.report.cases import Case
from inspire_d2.report.truth import Thing

__all__ = ["COCO_SIZES", "POLYP_SIZES", "SizeCounts", "Sizes", "count_by_size", "pixels_of"]


class Sizes(NamedTuple):
    """Classes of size: what they are called, and where each but the first begins."""

    names: tuple[str, ...]
    begins: tuple[float, ...]
    unit: str
    of_image: bool  # in shares of the image's area, else in pixels


POLYP_SIZES = Sizes(
    ("< 1 %", "1–2 %", "2–5 %", "5–10 %", "10–20 %", "≥ 20 %"),
    (0.01, 0.02, 0.05, 0.1, 0.2),
    "size, share of the image's area",
    True,
)
COCO_SIZES = Sizes(
    ("small", "medium", "large"),
    (32**2, 96**2),
    "size: small is below 32², large from 96² pixels on",
    False,
)


class SizeCounts(NamedTuple):
    """How many there are in each class of size."""

    found: list[int]
    missed: list[int]
    false: list[int]


def count_by_size(cases: Sequence[Case], sizes: Sizes) -> SizeCounts:
    """Count objects found, objects missed and predictions that match nothing."""
    counts = SizeCounts(*([0] * len(sizes.names) for _ in range(3)))
    for case in cases:
        missed = {id(one) for one in case.missed}
        for thing in case.true:
            group = counts.missed if id(thing) in missed else counts.found
            group[_class_of(thing, case, sizes)] += 1
        for thing in case.false:
            counts.false[_class_of(thing, case, sizes)] += 1
    return counts


def pixels_of(thing: Thing) -> float:
    """Return the area of an object's mask, or of its box where it has none."""
    if thing.mask is not None:
        return float(mask_util.area(thing.mask))
    return thing.box[2] * thing.box[3]


def _class_of(thing: Thing, case: Case, sizes: Sizes) -> int:
    size = pixels_of(thing)
    if sizes.of_image:
        size /= case.item.width * case.item.height
    return sum(size >= begin for begin in sizes.begins)
