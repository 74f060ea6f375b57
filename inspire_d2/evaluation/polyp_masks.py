"""Masks and maps of polyps: from annotations, from a detector's instances, from a segmenter's map.

Shape shorthand in this module: N predictions, G polyps, H, W (pixels of the original image).
"""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import Instances
from scipy import ndimage

from inspire_d2.errors import InputError

__all__ = [
    "annotation_masks",
    "annotation_rle",
    "components",
    "crowd_region",
    "foreground_map",
    "instance_map",
    "instance_masks",
]

# Least pixels of a component of a semantic map; datasets/prepare_polyps.py drops smaller polyps.
MIN_COMPONENT = 30


def annotation_masks(record: dict[str, Any]) -> np.ndarray:
    """Draw the annotations of a Detectron2 dataset dict: bool (G, H, W), at the original size.

    Polygons and RLE (compressed or not) are read. Crowd regions and masks without a pixel are left
    out: they are no polyp that could be found.

    Raises:
        InputError: an annotation without a segmentation.
    """
    masks = []
    for annotation in record.get("annotations", []):
        if annotation.get("iscrowd", 0):
            continue
        rle = annotation_rle(annotation, record)
        if rle is None:
            raise InputError(f"an annotation of {record['file_name']} has no segmentation")
        mask = _decode(rle, record)
        if mask.any():
            masks.append(mask)
    return np.stack(masks) if masks else np.zeros((0, record["height"], record["width"]), bool)


def crowd_region(record: dict[str, Any], true: np.ndarray) -> np.ndarray:
    """Draw what crowds cover beside the polyps ``true`` (G, H, W), and so is left out: (H, W).

    As in training (data/semantic.py), a polyp's pixels are the polyp's.
    """
    region = np.zeros((record["height"], record["width"]), bool)
    for annotation in record.get("annotations", []):
        rle = annotation_rle(annotation, record) if annotation.get("iscrowd", 0) else None
        if rle is not None:
            region |= _decode(rle, record)
    return region & ~true.any(axis=0) if region.any() else region


def _decode(rle: dict[str, Any], record: dict[str, Any]) -> np.ndarray:
    mask = mask_util.decode(rle).astype(bool)
    size = record["height"], record["width"]
    if mask.shape != size:
        raise InputError(
            f"a mask of {record['file_name']} is {mask.shape} (H, W), the image {size}"
        )
    return mask


def annotation_rle(annotation: dict[str, Any], record: dict[str, Any]) -> dict[str, Any] | None:
    """Return an annotation's mask as a compressed RLE; None where it has no segmentation.

    Args:
        annotation: with polygons or RLE (compressed or not).
        record: the Detectron2 dataset dict that it is of.
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    size = record["height"], record["width"]
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, *size)
    return segmentation


def instance_masks(instances: Instances, record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the instances' masks, bool (N, H, W), and scores (N,), the best score first.

    Raises:
        InputError: instances without masks, or of another size than the image of ``record``.
    """
    if not instances.has("pred_masks"):
        raise InputError(
            "PolypEvaluator needs masks, but the model's instances have no 'pred_masks' "
            f"(they have {', '.join(instances.get_fields()) or 'no fields'}): "
            "use a model with a mask head, or InspireCOCOEvaluator for boxes"
        )
    size = _check_size(instances.image_size, record)
    instances = instances.to("cpu")
    scores = instances.scores.numpy()
    order = np.argsort(-scores, kind="stable")
    masks = np.asarray(instances.pred_masks).reshape(-1, *size)[order].astype(bool)
    return masks, scores[order]


def instance_map(masks: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the pixel-wise maximum of score x mask, float32 (H, W), 0 where there is no mask.

    Args:
        masks: bool (N, H, W), best score first.
        scores: (N,).
    """
    result = np.zeros(masks.shape[1:], np.float32)
    for mask, score in zip(masks[::-1], scores[::-1], strict=True):
        np.copyto(result, score, where=mask)  # the worst first: better ones lie on top
    return result


def foreground_map(logits: torch.Tensor, record: dict[str, Any]) -> np.ndarray:
    """Return the probability of any class but 0, float32 (H, W), of logits (K, H, W).

    Raises:
        InputError: logits of another size than the image of ``record``.
    """
    _check_size(logits.shape[1:], record)
    return (1 - logits.float().softmax(dim=0)[0]).cpu().numpy()


def components(foreground: np.ndarray, threshold: float) -> np.ndarray:
    """Split a map at the threshold into components of 30 pixels and more, the largest first.

    Pixels that touch at a corner belong together. Returns bool (N, H, W).
    """
    labels, count = ndimage.label(foreground >= threshold, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-areas, kind="stable")
    kept = order[areas[order] >= MIN_COMPONENT] + 1  # a map may have thousands of specks
    return labels == kept[:, None, None]


def _check_size(predicted: tuple[int, ...], record: dict[str, Any]) -> tuple[int, int]:
    size = (record["height"], record["width"])
    if tuple(predicted) != size:
        raise InputError(
            f"the prediction for {record['file_name']} is {tuple(predicted)} (H, W), "
            f"the data set says {size}"
        )
    return size
