"""What a model found in each image, judged against the truth at the score threshold.

Shape shorthand in this module: N predictions, G objects.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from inspire_d2.evaluation.polyp_match import FOUND_IOU, assign
from inspire_d2.report.truth import Item, Thing

__all__ = ["Case", "case_from_row", "judge_case", "overlap"]


@dataclass
class Case:
    """An image's counts; its objects and predictions too, where they are known."""

    item: Item
    num_true: int
    num_found: int
    num_predicted: int  # of the threshold or more
    truth_pixels: float  # that are an object's
    dice: float | None = None
    iou: float | None = None
    true: list[Thing] = field(default_factory=list)  # without crowds
    predicted: list[Thing] = field(default_factory=list)  # of the threshold or more
    false: list[Thing] = field(default_factory=list)  # of those, the ones that match nothing
    missed: list[Thing] = field(default_factory=list)
    scored: list[tuple[float, bool]] = field(default_factory=list)  # every score, whether it is hit
    detailed: bool = True  # whether the lists are known
    has_crowd: bool = False

    @property
    def truth_share(self) -> float:
        """The share of the image's area that is an object; NaN where its size is not known."""
        area = self.item.width * self.item.height
        return self.truth_pixels / area if area else math.nan

    @property
    def num_false(self) -> int:
        """Predictions that match no object."""
        return self.num_predicted - self.num_found

    @property
    def is_negative(self) -> bool:
        """Whether the image shows no object; not where a crowd of them may be."""
        return not self.num_true and not self.has_crowd

    @property
    def f1(self) -> float:
        """2 found / (true + predicted); 1 where there is nothing and nothing was predicted."""
        total = self.num_true + self.num_predicted
        return 2 * self.num_found / total if total else 1.0

    @property
    def score(self) -> float:
        """What cases are ranked by: Dice where there is one, else F1."""
        return self.f1 if self.dice is None else self.dice


def judge_case(
    item: Item, predicted: Sequence[Thing], threshold: float, *, with_dice: bool
) -> Case:
    """Judge the predictions of an image.

    A prediction takes the best object of its category still free that it overlaps with an IoU of
    0.5 or more, in the order given. One that takes none but lies half within a crowd region counts
    neither way. With ``with_dice`` it is judged as PolypEvaluator does: objects need masks, crowds'
    pixels are taken out of the predictions, and all categories are one.
    """
    true = [one for one in item.things if not one.crowd and not _is_empty(one)]
    crowds = [one for one in item.things if one.crowd and not _is_empty(one)]
    if with_dice:
        crowds = [one for one in crowds if one.mask is not None]
    with_masks = with_dice or _all_masks([*predicted, *true, *crowds])
    if with_dice and crowds:
        seen = _beside_crowds(predicted, true, crowds)
        on_crowd = [
            2 * mask_util.area(left.mask) <= mask_util.area(one.mask)
            for one, left in zip(predicted, seen, strict=True)
        ]
    else:
        seen = predicted
        within = _same_category(predicted, crowds) * overlap(predicted, crowds, with_masks)
        on_crowd = within.max(axis=1, initial=0) >= FOUND_IOU
    overlaps = overlap(seen, true, with_masks)
    matches = assign(overlaps if with_dice else _same_category(seen, true) * overlaps)
    judged = [
        (thing, left, match)
        for thing, left, match, ignored in zip(predicted, seen, matches, on_crowd, strict=True)
        if match is not None or not ignored
    ]
    counted = [one for one in judged if one[0].score >= threshold]
    found = {match for *_, match in counted if match is not None}
    case = Case(
        item,
        num_true=len(true),
        num_found=len(found),
        num_predicted=len(counted),
        truth_pixels=_area([one.mask for one in true], true),
        true=true,
        predicted=[thing for thing, *_ in counted],
        false=[thing for thing, _, match in counted if match is None],
        missed=[one for k, one in enumerate(true) if k not in found],
        scored=[(thing.score, match is not None) for thing, _, match in judged],
        has_crowd=bool(crowds),
    )
    if with_dice:
        case.dice, case.iou = _dice_iou([left for _, left, _ in counted], true)
    return case


def case_from_row(row: Mapping[str, Any], item: Item) -> Case:
    """Make a case of a row of polyp_per_image.json, which counts and does not keep."""
    return Case(
        item,
        num_true=row["num_gt"],
        num_found=row["found"],
        num_predicted=row["num_pred"],
        truth_pixels=row["gt_pixels"],
        dice=row["dice"],
        iou=row["iou"],
        detailed=False,
        has_crowd=bool(row.get("crowd_pixels")),
    )


def overlap(predicted: Sequence[Thing], true: Sequence[Thing], with_masks: bool) -> np.ndarray:
    """Return the IoUs (N, G) of masks or boxes; of a crowd, the share of the prediction in it."""
    if not predicted or not true:
        return np.zeros((len(predicted), len(true)))
    crowd = [int(one.crowd) for one in true]
    if with_masks:
        return mask_util.iou([one.mask for one in predicted], [one.mask for one in true], crowd)
    boxes = [np.array([one.box for one in things], float) for things in (predicted, true)]
    return mask_util.iou(*boxes, crowd)


def _beside_crowds(
    predicted: Sequence[Thing], true: Sequence[Thing], crowds: Sequence[Thing]
) -> list[Thing]:
    """Take what crowds cover beside the objects out of the predictions' masks."""
    rest = mask_util.decode(mask_util.merge([one.mask for one in crowds])) == 0
    if true:
        rest |= mask_util.decode(mask_util.merge([one.mask for one in true])) > 0
    rest = mask_util.encode(np.asfortranarray(rest, np.uint8))
    return [p._replace(mask=mask_util.merge([p.mask, rest], intersect=True)) for p in predicted]


def _same_category(predicted: Sequence[Thing], true: Sequence[Thing]) -> np.ndarray:
    mine = np.array([one.category for one in predicted]).reshape(-1, 1)
    return mine == np.array([one.category for one in true]).reshape(1, -1)


def _dice_iou(predicted: Sequence[Thing], true: Sequence[Thing]) -> tuple[float, float]:
    """Return Dice and IoU of the unions; 1 where both are empty, as PolypEvaluator has it."""
    ours = mask_util.merge([one.mask for one in predicted]) if predicted else None
    theirs = mask_util.merge([one.mask for one in true]) if true else None
    both = 0
    if ours is not None and theirs is not None:
        both = int(mask_util.area(mask_util.merge([ours, theirs], intersect=True)))
    total = sum(int(mask_util.area(one)) for one in (ours, theirs) if one is not None)
    return (2 * both / total, both / (total - both)) if total else (1.0, 1.0)


def _area(masks: Sequence[Any], things: Sequence[Thing]) -> float:
    """Return the pixels of the union of masks, or, where one is missing, of the boxes' sum."""
    if masks and all(mask is not None for mask in masks):
        return float(mask_util.area(mask_util.merge(list(masks))))
    return float(sum(one.box[2] * one.box[3] for one in things))


def _all_masks(things: Sequence[Thing]) -> bool:
    return all(one.mask is not None for one in things)


def _is_empty(thing: Thing) -> bool:
    return thing.mask is not None and int(mask_util.area(thing.mask)) == 0
