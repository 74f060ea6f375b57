"""Checks of a COCO json's boxes and masks.

What Detectron2 leaves out by itself, because COCO has a few of it (boxes without width or height,
polygons of two points), is told in a warning; what would train or score wrongly is refused.
"""

import logging
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from inspire_d2.data.rle import runs_add_up
from inspire_d2.errors import InputError, first_few

__all__ = ["check_boxes", "check_masks", "check_scored", "check_segmentations"]

logger = logging.getLogger(__name__)

_NO_MASK = (
    "whose segmentation is neither polygons, [[x1, y1, x2, y2, ...], ...], nor RLE with size and"
    " counts"
)
_SLACK = 1.0  # pixels by which a box may lie beside its image: rounding
_CUT_OFF = 0.1  # share of boxes that reach over an edge from which they look like corners


def check_boxes(json_file: str, content: dict[str, Any]) -> None:
    """Raise InputError for boxes that are no boxes or lie elsewhere than in their image.

    Boxes without width or height are left out of training, with a warning.
    """
    annotations = content["annotations"]
    if not annotations:
        return
    try:
        boxes = np.array([a["bbox"] for a in annotations])
    except ValueError:  # lists of different lengths
        boxes = np.empty(0)
    if boxes.shape != (len(annotations), 4) or boxes.dtype.kind not in "iuf":
        wrong = [a for a in annotations if not _is_box(a["bbox"])]
        _refuse(json_file, content, wrong, "whose bbox is not four numbers: x, y, width, height")
    boxes = boxes.astype(np.float64)
    of_image = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    sizes = np.array([of_image[a["image_id"]] for a in annotations], dtype=np.float64)
    starts, extents = boxes[:, :2], boxes[:, 2:]

    def chosen(which: np.ndarray) -> list[dict[str, Any]]:
        return [annotations[i] for i in np.flatnonzero(which.any(axis=1))]

    wrong = chosen(~np.isfinite(boxes))
    _refuse(json_file, content, wrong, "whose bbox holds NaN or infinity")
    wrong = chosen(extents < 0)
    what = "with a negative width or height: bbox is x, y, width, height in pixels"
    _refuse(json_file, content, wrong, what)
    outside = (starts > sizes + _SLACK) | (starts + extents < -_SLACK)
    what = "whose bbox lies outside its image: are the boxes of images of another size?"
    _refuse(json_file, content, chosen(outside), what)
    # Just outside by less than the slack is nothing left within, too.
    empty = (extents == 0) | (starts >= sizes) | (starts + extents <= 0)
    _warn(json_file, chosen(empty), "have a bbox without area, and are not trained on")
    over = chosen((starts < -_SLACK) | (starts + extents > sizes + _SLACK))
    if len(over) > _CUT_OFF * len(annotations):
        _warn(
            json_file,
            over,
            "reach over the edge of their image and are cut off there: is their bbox x, y, width,"
            " height, or two corners?",
        )


def check_segmentations(json_file: str, content: dict[str, Any]) -> None:
    """Raise InputError for masks that are none, or not of their image.

    Polygons of fewer than 3 points, or with an odd number of coordinates, are left out of training,
    with a warning.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    found: dict[str, list[dict[str, Any]]] = {"short": []}
    for annotation in content["annotations"]:
        segmentation = annotation.get("segmentation")
        if not segmentation:
            continue
        if isinstance(segmentation, list):
            problem = _polygon_problem(segmentation)
        else:
            problem = _rle_problem(segmentation, sizes[annotation["image_id"]])
        if problem:
            found.setdefault(problem, []).append(annotation)
    short = found.pop("short")
    for what, wrong in found.items():
        _refuse(json_file, content, wrong, what)
    _warn(
        json_file,
        short,
        "have polygons of fewer than 3 points or with an odd number of coordinates, which are not"
        " trained on",
    )


def check_masks(json_file: str, content: dict[str, Any], *, needed: bool, polygons: bool) -> None:
    """Raise InputError unless objects have the masks that a model or its mapper needs.

    Args:
        needed: every object must have one; else all or none.
        polygons: RLE cannot be read.
    """
    objects = [a for a in content["annotations"] if not a.get("iscrowd", 0)]
    bare = [a for a in objects if not a.get("segmentation")]
    if needed or len(bare) < len(objects):
        what = (
            "without a segmentation, which masks need: add it, or take a config without masks and"
            " dataloader.train.mapper.use_instance_mask=False"
        )
        _refuse(json_file, content, bare, what)
    if polygons:
        wrong = [a for a in objects if isinstance(a.get("segmentation"), dict)]
        what = (
            "whose mask is RLE, where polygons are read: set"
            " dataloader.train.mapper.instance_mask_format=bitmask"
        )
        _refuse(json_file, content, wrong, what)


def check_scored(json_file: str, content: dict[str, Any]) -> None:
    """Raise InputError unless objects have what only COCO's scores take: their area."""
    wrong = [
        a
        for a in content["annotations"]
        if not (_is_number(a.get("area")) and 0 <= a["area"] < math.inf)
    ]
    what = "without an area of 0 or more, by which scores are split: add it, in pixels"
    _refuse(json_file, content, wrong, what)


# What COCO's compressed counts are written in; taken out, nothing may be left
_RLE_LETTERS = dict.fromkeys(range(48, 112))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _polygon_problem(polygons: list[Any]) -> str | None:
    short = False
    for polygon in polygons:
        if not isinstance(polygon, list):
            return _NO_MASK
        try:
            # One number that is not finite makes the sum so: quick, for a million polygons.
            if not math.isfinite(sum(polygon)):
                return "whose polygons hold NaN or infinity"
        except (TypeError, OverflowError):
            return _NO_MASK
        short = short or len(polygon) < 6 or len(polygon) % 2 == 1
    return "short" if short else None


def _rle_problem(rle: Any, size: tuple[int, int]) -> str | None:
    if not isinstance(rle, dict) or not isinstance(rle.get("counts"), (str, list)):
        return _NO_MASK
    if rle.get("size") != list(size):
        return "whose RLE has another size than the image's [height, width]"
    counts = rle["counts"]
    if isinstance(counts, str) and (not counts.isascii() or counts.translate(_RLE_LETTERS)):
        return "whose RLE counts are no compressed RLE"
    if not runs_add_up(counts, size[0] * size[1]):
        return "whose RLE counts do not add up to the image's pixels"
    return None


def _refuse(
    json_file: str, content: dict[str, Any], annotations: list[dict[str, Any]], what: str
) -> None:
    """Raise InputError naming the first of these annotations and their images, if there are any."""
    if not annotations:
        return
    names = {image["id"]: image["file_name"] for image in content["images"]}
    shown = [f"{a['id']} of {names[a['image_id']]}" for a in annotations]
    raise InputError(
        f"{json_file} has {len(annotations)} annotations {what} (annotation {first_few(shown, 5)})"
    )


def _warn(json_file: str, annotations: Iterable[dict[str, Any]], what: str) -> None:
    ids = [a["id"] for a in annotations]
    if ids:
        logger.warning(
            "%s: %d annotations %s (annotation %s)", json_file, len(ids), what, first_few(ids, 5)
        )
