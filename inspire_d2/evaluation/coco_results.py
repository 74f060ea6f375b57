"""Checks that predictions in COCO's format are of the data set that they are scored on."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from pycocotools.coco import COCO

from ..data.rle import runs_add_up
from ..errors import InputError, first_few

__all__ = ["SHAPES", "check_results", "check_runs"]

# What a result needs for a task besides its image, category and score.
SHAPES = {"bbox": "bbox", "segm": "segmentation"}


def check_results(truth: COCO, results: Sequence[Mapping[str, Any]], task: str) -> None:
    """Raise InputError unless results can be scored as a task's, and are of the truth's images.

    The libraries that score mostly go on where something is wrong, and the scores are then too low
    or of other objects than meant: predictions on images or of categories that the truth lacks
    count as if they were not there, masks of another size match nothing, and a score that is not a
    number sorts anywhere.

    Args:
        truth: the ground truth.
        results: in COCO's format, with the data set's category ids.
        task: one of SHAPES; of the other's boxes or masks nothing is checked.

    Raises:
        InputError: a result that is incomplete, of an unknown image or category, without a finite
            score and box, or with a mask that is not a compressed RLE of its image's size. The
            message names the first few.
    """
    shape = SHAPES[task]
    needed = {"image_id", "category_id", "score", shape}
    for index, one in enumerate(results):
        if not isinstance(one, Mapping) or not needed <= one.keys():
            has = one.keys() if isinstance(one, Mapping) else ()
            lacking = ", ".join(sorted(needed.difference(has)))
            raise InputError(f"prediction [{index}] lacks {lacking}")
    _check_ids(truth, results)
    bad = [k for k, one in enumerate(results) if not _finite(one["score"])]
    _refuse(bad, results, "have a score that is not a finite number")
    if task == "bbox":
        bad = [k for k, one in enumerate(results) if not _is_box(one["bbox"])]
        _refuse(bad, results, "have a bbox that is not four finite numbers")
    else:
        _check_masks(truth, results)


def check_runs(results: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError where masks that were read from a file do not add up to their size.

    Decoded they would be of what memory holds. Those that this process has made need no such look,
    which takes longer than to score them.

    Args:
        results: such as ``check_results`` has passed as masks.
    """
    masks = [one["segmentation"] for one in results]
    bad = [
        k
        for k, mask in enumerate(masks)
        if not mask["counts"].isascii()
        or not runs_add_up(mask["counts"], mask["size"][0] * mask["size"][1])
    ]
    _refuse(bad, results, "have a mask whose RLE counts do not add up to its size")


def _check_ids(truth: COCO, results: Sequence[Mapping[str, Any]]) -> None:
    kinds = (("image_id", "images", truth.imgs), ("category_id", "categories", truth.cats))
    for key, owners, known in kinds:
        try:
            foreign = [one[key] for one in results if one[key] not in known]
        except TypeError as error:
            raise InputError(f"a prediction has no number for its {key}") from error
        if foreign:
            raise InputError(
                f"{len(foreign)} of {len(results)} predictions are of {owners} that the ground "
                f"truth lacks ({key} {first_few(list(dict.fromkeys(foreign)), 3)}): they are of "
                "another data set"
            )


def _check_masks(truth: COCO, results: Sequence[Mapping[str, Any]]) -> None:
    masks = [one["segmentation"] for one in results]
    bad = [k for k, mask in enumerate(masks) if not _is_compressed(mask)]
    _refuse(bad, results, "have a segmentation that is not a compressed RLE")
    for index, (one, mask) in enumerate(zip(results, masks, strict=True)):
        image = truth.imgs[one["image_id"]]
        size = [image["height"], image["width"]]
        if list(mask["size"]) != size:
            raise InputError(
                f"prediction [{index}] has a mask of {mask['size'][0]}x{mask['size'][1]} on image "
                f"{one['image_id']}, which is {size[0]}x{size[1]} (height x width)"
            )


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_box(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 4 and all(map(_finite, value))


def _is_compressed(mask: Any) -> bool:
    return (
        isinstance(mask, Mapping)
        and isinstance(mask.get("counts"), (str, bytes))
        and isinstance(mask.get("size"), Sequence)
        and len(mask["size"]) == 2
    )


def _refuse(bad: list[int], results: Sequence[Mapping[str, Any]], what: str) -> None:
    if bad:
        where = first_few([f"[{index}]" for index in bad], 3)
        raise InputError(f"{len(bad)} of {len(results)} predictions {what}: {where}")
