"""A synthetic COCO set and detections on it: the same for every library that scores them."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
from pycocotools.coco import COCO

__all__ = ["ScoringSet", "make_set"]

HEIGHT, WIDTH = 480, 640
CATEGORIES = 80  # as COCO; the libraries loop over them
CROWDS = 0.01  # share of objects
FOUND, CONFUSED, FALSE = 0.9, 0.1, 0.3  # of objects: found, of those in a wrong class, made up
ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)


@dataclass(frozen=True)
class ScoringSet:
    """How large a set is; ``objects`` is of an image."""

    images: int
    objects: int
    seed: int = 0

    def __str__(self) -> str:
        """Describe it in a heading."""
        return f"{self.images} images x {self.objects} objects, {CATEGORIES} categories"


def make_set(size: ScoringSet) -> tuple[COCO, list[dict[str, Any]]]:
    """Make ground truth, and results in COCO's format: boxes and elliptic masks as RLE.

    Most objects are found, moved and scaled by some tenths of their size, a few in a wrong class;
    some detections are made up.
    """
    rng = np.random.default_rng(size.seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, size.images + 1):
        for _ in range(size.objects):
            ellipse = _random_ellipse(rng)
            category = int(rng.integers(1, CATEGORIES + 1))
            rle, box = _draw(ellipse)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": int(mask_api.area(rle)),
                    "iscrowd": int(rng.random() < CROWDS),
                    "segmentation": rle,
                }
            )
            if rng.random() < FOUND:
                moved = ellipse + rng.normal(0, 0.07, 4) * np.tile(ellipse[2:], 2)
                other = int(rng.integers(1, CATEGORIES + 1))
                found = other if rng.random() < CONFUSED else category
                results.append(_result(image_id, found, moved, rng))
            if rng.random() < FALSE:
                results.append(_result(image_id, category, _random_ellipse(rng), rng))
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(1, size.images + 1)],
        "categories": [{"id": k, "name": f"category {k}"} for k in range(1, CATEGORIES + 1)],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth.createIndex()
    return truth, results


def _random_ellipse(rng: np.random.Generator) -> np.ndarray:
    """Draw centre x, y and radii: 6 to 120 pixels, so that all of COCO's sizes occur."""
    radii = 6 * 20 ** rng.random(2)
    centre = rng.uniform(radii, np.array([WIDTH, HEIGHT]) - radii)
    return np.concatenate([centre, radii])


def _draw(ellipse: np.ndarray) -> tuple[dict[str, Any], list[float]]:
    """Turn an ellipse into a mask and its box."""
    x = np.clip(ellipse[0] + ellipse[2] * np.cos(ANGLES), 0, WIDTH)
    y = np.clip(ellipse[1] + ellipse[3] * np.sin(ANGLES), 0, HEIGHT)
    polygon = np.stack([x, y], axis=1).ravel().tolist()
    (rle,) = mask_api.frPyObjects([polygon], HEIGHT, WIDTH)
    box = mask_api.toBbox(rle).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}, box


def _result(
    image_id: int, category: int, ellipse: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    rle, box = _draw(ellipse)
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": box,
        "score": float(rng.random()),
        "segmentation": rle,
    }
