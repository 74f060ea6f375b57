"""Which predictions find which polyps, and the record of one image at one threshold.

Shape shorthand in this module: N predictions, G polyps, H, W (pixels of the original image).
"""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util

__all__ = ["FOUND_IOU", "assign", "judge", "match_polyps"]

FOUND_IOU = 0.5


def match_polyps(
    predicted: np.ndarray, true: np.ndarray, min_iou: float = FOUND_IOU
) -> list[int | None]:
    """Assign predictions to polyps, greedily and one to one.

    Args:
        predicted: bool (N, H, W), best score first.
        true: bool (G, H, W).
        min_iou: least mask IoU of a match.

    Returns:
        For each prediction the index of its polyp, or None.
    """
    if not len(predicted) or not len(true):
        return [None] * len(predicted)
    return assign(mask_util.iou(_encode(predicted), _encode(true), [0] * len(true)), min_iou)


def assign(ious: np.ndarray, min_iou: float = FOUND_IOU) -> list[int | None]:
    """Assign predictions to objects by their IoUs (N, G), as :func:`match_polyps` does."""
    if not ious.size:
        return [None] * len(ious)
    ious = ious.copy()
    matches: list[int | None] = []
    for row in ious:
        best = int(np.argmax(row))
        if row[best] >= min_iou:
            matches.append(best)
            ious[:, best] = -1  # taken; `row` is a view, so this one changes too, after its use
        else:
            matches.append(None)
    return matches


def judge(
    record: dict[str, Any], predicted: np.ndarray, true: np.ndarray, crowd: np.ndarray
) -> dict[str, Any]:
    """Return the scores of one image, a Detectron2 dataset dict, from its masks.

    Pixels of a crowd are taken out of the predictions. One that then finds no polyp, and half of
    which or more was crowd, does not count at all.

    Args:
        record: the image.
        predicted: bool (N, H, W), best score first.
        true: bool (G, H, W).
        crowd: bool (H, W), without a pixel of ``true``.
    """
    crowd_pixels = int(crowd.sum())
    if crowd_pixels:
        on_crowd = (predicted & crowd).sum(axis=(1, 2)) >= 0.5 * predicted.sum(axis=(1, 2))
        predicted = predicted & ~crowd
    matches = match_polyps(predicted, true)
    if crowd_pixels:
        unmatched = np.array([match is None for match in matches], bool)
        predicted = predicted[~(unmatched & on_crowd)]
    union_predicted, union_true = predicted.any(axis=0), true.any(axis=0)
    both = int((union_predicted & union_true).sum())
    total = int(union_predicted.sum() + union_true.sum())
    found = sum(match is not None for match in matches)
    return {
        "image_id": record["image_id"],
        "file_name": record["file_name"],
        "dice": 2 * both / total if total else 1.0,
        "iou": both / (total - both) if total else 1.0,
        "gt_pixels": int(union_true.sum()),
        "num_gt": len(true),
        "num_pred": len(predicted),
        "found": found,
        "false_positives": len(predicted) - found,
        **({"crowd_pixels": crowd_pixels} if crowd_pixels else {}),
    }


def _encode(masks: np.ndarray) -> list[dict[str, Any]]:
    return mask_util.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
