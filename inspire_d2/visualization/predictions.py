"""Predictions as Detectron2's COCO evaluator writes them, read back for drawing."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as mask_util

from inspire_d2.errors import InputError

__all__ = ["read_predictions"]


def read_predictions(
    results_json: str | os.PathLike, dataset_dicts: Sequence[dict[str, Any]]
) -> dict[Any, Instances]:
    """Read ``coco_instances_results.json``: {image_id: its instances}, at the image's size.

    Instances have ``pred_boxes`` (N, 4) in XYXY, ``scores`` (N,) and, where the file has masks,
    ``pred_masks`` (N, H, W); images without a prediction have N = 0.

    Raises:
        InputError: the file cannot be read, or has predictions for other images.
    """
    try:
        with open(results_json) as file:
            results = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"predictions {results_json} cannot be read: {error}") from error
    grouped: dict[Any, list[dict[str, Any]]] = {d["image_id"]: [] for d in dataset_dicts}
    for result in results:
        if result["image_id"] not in grouped:
            raise InputError(
                f"predictions {results_json} are of another data set: image {result['image_id']}."
            )
        grouped[result["image_id"]].append(result)
    sizes = {d["image_id"]: (d["height"], d["width"]) for d in dataset_dicts}
    return {key: _to_instances(group, sizes[key]) for key, group in grouped.items()}


def _to_instances(results: list[dict[str, Any]], size: tuple[int, int]) -> Instances:
    instances = Instances(size)
    boxes = torch.tensor([r["bbox"] for r in results], dtype=torch.float32).reshape(-1, 4)
    instances.pred_boxes = Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS))
    instances.scores = torch.tensor([r["score"] for r in results], dtype=torch.float32)
    if all("segmentation" in r for r in results):
        masks = np.zeros((len(results), *size), dtype=bool)
        for mask, result in zip(masks, results, strict=True):
            mask[:] = mask_util.decode(result["segmentation"]).astype(bool)
        instances.pred_masks = torch.from_numpy(masks)
    return instances
