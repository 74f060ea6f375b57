"""What a model found in an image: as instances, as masks, drawn into the image.

Shape shorthand in this module: N predictions, H, W (pixels of the original image).
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from detectron2.structures import BitMasks, Instances

from inspire_d2.errors import InputError
from inspire_d2.evaluation.polyp_masks import MIN_COMPONENT, components

__all__ = ["BLUE", "as_instances", "check_regions", "draw", "masks_of"]

MAX_REGION_BYTES = 500_000_000  # of all regions of a segmenter's map, a byte a pixel each
BLUE = (255, 190, 0)  # BGR; stands out from mucosa


def as_instances(result: Instances | np.ndarray, threshold: float) -> Instances:
    """Return a segmenter's map (H, W) as instances; a detector's are returned as they are.

    They are the components at the threshold, as the evaluation finds them, the largest first; the
    score of one is its highest probability.

    Raises:
        InputError: a map of several classes, of which none is known to be the background.
    """
    if isinstance(result, Instances):
        return result
    if result.ndim != 2:
        raise InputError(f"the model segments {len(result)} classes, not one and a background.")
    masks = torch.from_numpy(components(result, threshold))
    instances = Instances(result.shape)
    instances.pred_masks = masks
    instances.pred_boxes = BitMasks(masks).get_bounding_boxes()
    instances.scores = torch.tensor([float(result[mask].max()) for mask in masks.numpy()])
    instances.pred_classes = torch.zeros(len(masks), dtype=torch.int64)
    return instances


def check_regions(result: Instances | np.ndarray, threshold: float) -> None:
    """Raise InputError where a segmenter's map falls into more regions than memory should hold."""
    if isinstance(result, Instances) or result.ndim != 2:
        return
    regions = cv2.connectedComponentsWithStats((result >= threshold).astype(np.uint8))[2][1:]
    number = int((regions[:, cv2.CC_STAT_AREA] >= MIN_COMPONENT).sum())
    if number * result.size > MAX_REGION_BYTES:
        raise InputError(
            f"At a least score of {threshold:.2f} there are {number} regions, too many to show: "
            "choose another."
        )


def masks_of(instances: Instances, threshold: float) -> np.ndarray:
    """Return the masks, or filled boxes, of instances of that score or more: bool (N, H, W)."""
    instances = instances[instances.scores >= threshold]
    if instances.has("pred_masks"):
        return instances.pred_masks.numpy().astype(bool, copy=False)
    masks = np.zeros((len(instances), *instances.image_size), bool)
    boxes = instances.pred_boxes.tensor.round().int().tolist()
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def draw(pixels: np.ndarray, masks: np.ndarray, scores: Sequence[float]) -> np.ndarray:
    """Return a copy of an image, uint8 (H, W, 3) in BGR, with masks (N, H, W) and their scores."""
    drawn = np.ascontiguousarray(pixels.copy())
    union = masks.any(axis=0)
    drawn[union] = (0.7 * drawn[union] + 0.3 * np.array(BLUE)).astype(np.uint8)
    scale = max(max(drawn.shape) / 600, 0.8)
    for mask, score in zip(masks.astype(np.uint8), scores, strict=True):
        outline, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outline, -1, BLUE, round(2 * scale))
        left, top, _, _ = cv2.boundingRect(mask)
        at = (left, max(top - 4, round(14 * scale)))
        cv2.putText(drawn, f"{score:.2f}", at, cv2.FONT_HERSHEY_SIMPLEX, scale / 2, BLUE)
    return drawn
