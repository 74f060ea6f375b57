"""A sheet of images beside their ground truth and predictions, from the best to the worst.

Shape shorthand in this module: N predictions, G polyps, H, W (pixels of one tile or image).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inspire_d2.errors import InputError
from inspire_d2.evaluation.polyp import annotation_masks

__all__ = ["TRUTH_COLOUR", "prediction_grid", "spread"]

TRUTH_COLOUR = (40, 230, 70)  # RGB of the ground truth's outlines
_COLOURS = [(1.0, 0.6, 0.0), (0.2, 0.6, 1.0), (1.0, 0.2, 0.6), (0.1, 0.9, 0.9), (0.9, 0.9, 0.1)]
_GAP, _TITLE, _HEADER, _DPI = 14, 34, 40, 100  # pixels; the last in pixels an inch


def prediction_grid(
    dataset_dicts: Sequence[dict[str, Any]],
    predictions: Mapping[Any, Instances],
    output_png: str | os.PathLike,
    *,
    num_images: int = 8,
    score_threshold: float = 0.5,
    columns: int = 2,
    tile_width: int = 320,
) -> list[Any]:
    """Draw images in pairs: on the left the ground truth's outlines, on the right the predictions.

    Args:
        dataset_dicts: Detectron2's dicts, with ``image_id``, ``file_name`` and annotations.
        predictions: ``image_id`` to the model's instances at the image's size, with ``scores``
            (N,) and ``pred_masks`` (N, H, W); images without an entry are not considered.
        output_png: the file to write.
        num_images: how many at most; they are spread evenly over Dice, with the worst and the best.
        score_threshold: 0..1; lower predictions are neither drawn nor part of Dice.
        columns: pairs side by side.
        tile_width: width of one image on the sheet, in pixels.

    Returns:
        The ids of the images drawn, worst Dice first.

    Raises:
        InputError: no image has a prediction, predictions without masks, an unreadable image, or
            numbers out of range.
    """
    if num_images < 1 or columns < 1 or tile_width < 32:
        raise InputError("num_images and columns must be >= 1, tile_width >= 32")
    cases = [
        _Case(item, predictions[item["image_id"]], score_threshold)
        for item in dataset_dicts
        if item["image_id"] in predictions
    ]
    if not cases:
        raise InputError("none of the images has a prediction")
    cases.sort(key=lambda case: case.dice)
    cases = [cases[k] for k in spread(len(cases), num_images)]
    sheet = _compose(
        [(case.title(), case.draw(tile_width)) for case in cases], columns, score_threshold
    )
    Path(output_png).parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(output_png, dpi=_DPI)
    return [case.item["image_id"] for case in cases]


def spread(count: int, wanted: int) -> list[int]:
    """Choose ``wanted`` of ``count`` indices evenly, with the first and, from two on, the last."""
    if wanted >= count:
        return list(range(count))
    if wanted == 1:
        return [0]
    return [round(k * (count - 1) / (wanted - 1)) for k in range(wanted)]


class _Case:
    """An image with its true and predicted masks, and their Dice."""

    def __init__(self, item: dict[str, Any], instances: Instances, score_threshold: float) -> None:
        if not instances.has("pred_masks"):
            raise InputError(f"the prediction for {item['file_name']} has no masks")
        instances = instances.to("cpu")
        self.item = item
        self.true = annotation_masks(item)
        keep = instances.scores.numpy() >= score_threshold
        self.scores = instances.scores.numpy()[keep]
        self.predicted = np.asarray(instances.pred_masks)[keep].astype(bool)
        if self.predicted.shape[1:] != self.true.shape[1:]:
            raise InputError(
                f"the prediction for {item['file_name']} is {self.predicted.shape[1:]} (H, W), "
                f"the image {self.true.shape[1:]}"
            )
        a, b = self.true.any(axis=0), self.predicted.any(axis=0)
        total = int(a.sum() + b.sum())
        self.dice = 2 * int((a & b).sum()) / total if total else 1.0

    def title(self) -> str:
        """Return what stands above the pair."""
        name = Path(self.item["file_name"]).stem
        name = name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
        counts = f"{len(self.true)} true, {len(self.scores)} predicted"
        return f"{name}   Dice {self.dice:.2f}   {counts}"

    def draw(self, tile_width: int) -> np.ndarray:
        """Return the pair of tiles: RGB uint8 (H, 2 * tile_width + 4, 3)."""
        try:
            image = read_image(self.item["file_name"], "RGB")
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {self.item['file_name']}: {error}") from error
        if image.shape[:2] != self.true.shape[1:]:
            raise InputError(
                f"{self.item['file_name']} is {image.shape[:2]} (H, W), "
                f"the data set says {self.true.shape[1:]}"
            )
        scale = tile_width / image.shape[1]
        size = (tile_width, max(1, round(image.shape[0] * scale)))
        image = cv2.resize(
            image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        left = image.copy()
        for mask in _resize(self.true, size):
            outline, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(left, outline, -1, TRUTH_COLOUR, 2)
        right = image
        if len(self.scores):
            drawn = Visualizer(image).overlay_instances(
                masks=_resize(self.predicted, size),
                labels=[f"{score:.2f}" for score in self.scores],
                assigned_colors=[_COLOURS[k % len(_COLOURS)] for k in range(len(self.scores))],
                alpha=0.4,
            )
            right = cv2.resize(drawn.get_image(), size)
        between = np.full((size[1], 4, 3), 255, np.uint8)
        return np.hstack([left, between, right])


def _resize(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring masks (N, h, w) to ``size`` = (W, H): uint8 (N, H, W)."""
    resized = [
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for mask in masks
    ]
    return np.array(resized, np.uint8).reshape(-1, size[1], size[0])


def _compose(pairs: list[tuple[str, np.ndarray]], columns: int, score_threshold: float) -> Figure:
    """Lay the pairs out without resampling them, row by row."""
    columns = min(columns, len(pairs))
    rows = [pairs[k : k + columns] for k in range(0, len(pairs), columns)]
    heights = [max(tile.shape[0] for _, tile in row) + _TITLE for row in rows]
    cell = pairs[0][1].shape[1] + _GAP
    width, height = columns * cell + _GAP, sum(heights) + _HEADER + _GAP
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        # File names may hold what Matplotlib takes for formulae.
        figure.text(x / width, y / height, text, va="center", parse_math=False, **style)

    header = height - _HEADER / 2
    truth = tuple(c / 255 * 0.75 for c in TRUTH_COLOUR)
    style = {"fontsize": 12, "weight": "bold"}
    write(_GAP, header, "left: ground truth", color=truth, **style)
    text = f"right: predictions, score ≥ {score_threshold:g}"
    write(_GAP + cell / 2, header, text, color="#c76a00", **style)
    top = height - _HEADER
    for row, row_height in zip(rows, heights, strict=True):
        for k, (title, tile) in enumerate(row):
            x = _GAP + k * cell
            write(x, top - _TITLE / 2 - 2, title, fontsize=11, color="black")
            figure.figimage(tile, xo=x, yo=top - _TITLE - tile.shape[0], origin="upper")
        top -= row_height
    return figure
