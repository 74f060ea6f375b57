"""Whether an exported graph predicts what the model predicts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.structures import Instances
from scipy.optimize import linear_sum_assignment

__all__ = ["Differences", "compare", "variants"]

# Largest differences that count as equal: pixels, scores and probabilities, and the least IoU
BOX, SCORE, IOU = 0.1, 1e-3, 0.99


@dataclass
class Differences:
    """The largest differences over the images compared, and what was not equal."""

    sizes: list[str] = field(default_factory=list)
    detections: int = 0
    box: float = 0.0
    score: float = 0.0
    mask_iou: float = 1.0
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, **found: float) -> None:
        """Note one image's differences, and what of them is too large."""
        self.box = max(self.box, found.get("box", 0.0))
        self.score = max(self.score, found["score"])
        self.mask_iou = min(self.mask_iou, found.get("mask_iou", 1.0))
        # NaN is neither above nor below.
        if not found.get("box", 0.0) <= BOX:
            self.problems.append(f"{name}: boxes differ by {found['box']:.2g} pixels")
        if not found["score"] <= SCORE:
            self.problems.append(f"{name}: scores differ by {found['score']:.2g}")
        if found.get("mask_iou", 1.0) < IOU:
            self.problems.append(f"{name}: masks have an IoU of {found['mask_iou']:.4f}")


def variants(image: np.ndarray) -> Iterable[np.ndarray]:
    """Yield an image, turned by a quarter, and a part of it of odd height and width."""
    yield image
    yield np.ascontiguousarray(image.transpose(1, 0, 2))
    height, width = ((2 * side // 3) | 1 for side in image.shape[:2])
    yield np.ascontiguousarray(image[:height, :width])


def compare(
    predictor: Callable[[np.ndarray], Any],
    exported: Callable[[np.ndarray], Any],
    images: Iterable[np.ndarray],
) -> Differences:
    """Compare what two functions of images, uint8 (H, W, 3), predict on each."""
    total = Differences()
    for image in images:
        name = f"{image.shape[1]}x{image.shape[0]}"
        total.sizes.append(name)
        expected, found = predictor(image), exported(image)
        if isinstance(expected, Instances):
            total.detections += len(expected)
            _compare_detections(name, expected, found, total)
        elif expected.shape != found.shape:
            total.problems.append(f"{name}: a map of {found.shape}, not {expected.shape}")
        else:
            total.add(name, score=float(np.abs(expected - found).max()))
    return total


def _compare_detections(
    name: str, expected: Instances, found: dict[str, np.ndarray], total: Differences
) -> None:
    if len(expected) != len(found["scores"]):
        total.problems.append(f"{name}: {len(found['scores'])} detections, not {len(expected)}")
        return
    if len(expected) == 0:
        return
    # In pairs, as those of nearly equal scores may have changed places.
    boxes = expected.pred_boxes.tensor.numpy()
    if not (np.isfinite(boxes).all() and np.isfinite(found["boxes"]).all()):
        total.problems.append(f"{name}: boxes that are not finite")
        return
    apart = np.abs(boxes[:, None] - found["boxes"][None]).max(axis=2)
    other_class = expected.pred_classes.numpy()[:, None] != found["classes"][None]
    ours, theirs = linear_sum_assignment(apart + 1e6 * other_class)
    if other_class[ours, theirs].any():
        total.problems.append(f"{name}: other classes")
        return
    differences = {
        "box": float(apart[ours, theirs].max()),
        "score": float(np.abs(expected.scores.numpy()[ours] - found["scores"][theirs]).max()),
    }
    if expected.has("pred_masks"):
        a, b = expected.pred_masks.numpy()[ours], found["masks"][theirs]
        union = (a | b).sum(axis=(1, 2))
        iou = np.where(union > 0, (a & b).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)
        differences["mask_iou"] = float(iou.min())
    total.add(name, **differences)
