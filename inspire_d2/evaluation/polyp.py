"""Polyp metrics of instances and of semantic maps: Dice, IoU, polyp-wise recall, false positives.

Shape shorthand in this module: N predictions, G polyps, H, W (pixels of the original image).
"""

import json
import logging
import os
from collections import OrderedDict
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table
from scipy import ndimage

from inspire_d2.errors import InputError, first_few

__all__ = ["PolypEvaluator", "annotation_masks", "match_polyps"]

logger = logging.getLogger(__name__)

FOUND_IOU = 0.5
# Least pixels of a component of a semantic map; datasets/prepare_polyps.py drops smaller polyps.
MIN_COMPONENT = 30


class PolypEvaluator(DatasetEvaluator):
    """Compare the predictions of score >= ``score_threshold`` with the polyps' masks.

    Predictions are a detector's instances, or the 8-connected components, of 30 pixels and more,
    of a semantic map's foreground (the probability of any class but 0), the largest first.

    Every image is judged at its original size. The union of its predicted masks and the union of
    its true masks have a Dice ``2 |P & T| / (|P| + |T|)`` and an IoU ``|P & T| / |P | T|``. A polyp
    is found when a prediction has a mask IoU >= 0.5 with it; predictions choose in the order of
    their scores, each takes the best polyp still free, and one that takes none is a false positive.

    ``evaluate`` returns ``{"polyp": {...}}`` with fractions 0..1 (not percent) but for the last:

    ============  ==================================================================================
    Dice, IoU     mean over the images that have a polyp; an image without a prediction counts 0
    Dice_all      mean over all images; nothing predicted where there is nothing counts 1
    recall        polyps found / polyps, over the whole set
    specificity   images without a polyp that have no prediction / images without a polyp
    fp_per_image  false positives / images, 0 or more
    ============  ==================================================================================

    A set without polyps has no Dice, IoU and recall, one without negatives no specificity: these
    are left out, and a line is logged. All others are defined, also when nothing is predicted.
    """

    def __init__(
        self,
        dataset_name: str,
        score_threshold: float = 0.5,
        output_dir: str | None = None,
        distributed: bool = True,
    ) -> None:
        """Read the ground truth of a registered data set.

        Args:
            dataset_name: a name in Detectron2's ``DatasetCatalog``; its dicts need ``image_id``,
                ``file_name``, ``height``, ``width`` and annotations with polygons or RLE.
            score_threshold: 0..1; predictions below it do not exist for this evaluator.
            output_dir: where ``polyp_per_image.json`` goes; None writes nothing.
            distributed: gather the records of all ranks.

        Raises:
            InputError: unknown data set, image ids that are missing or not unique, or a threshold
                out of range.
        """
        if not 0 <= score_threshold <= 1:
            raise InputError(f"score_threshold must be 0..1, got {score_threshold}")
        if dataset_name not in DatasetCatalog:
            raise InputError(f"no data set is registered as {dataset_name!r}")
        self._dataset_name = dataset_name
        self._score_threshold = score_threshold
        self._output_dir = output_dir
        self._distributed = distributed
        self._truth = _by_image_id(DatasetCatalog.get(dataset_name), dataset_name)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._records: list[dict[str, Any]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Judge a batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``, which hold ``scores`` (N,) and ``pred_masks``
                (N, H, W) bool, or with ``sem_seg``: logits (K, H, W), class 0 the background.

        Raises:
            InputError: predictions without masks or of another size than the image, or an image
                that is not of the data set.
        """
        for item, output in zip(inputs, outputs, strict=True):
            if item["image_id"] not in self._truth:
                raise InputError(
                    f"image {item['image_id']!r} is not in the data set {self._dataset_name!r}"
                )
            truth = self._truth[item["image_id"]]
            if "instances" in output:
                masks = self._predicted_masks(output["instances"], truth)
            elif "sem_seg" in output:
                masks = self._components(output["sem_seg"], truth)
            else:
                raise InputError("PolypEvaluator needs a model that returns instances or sem_seg")
            self._records.append(_judge(truth, masks, annotation_masks(truth)))

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Return ``{"polyp": metrics}`` on the main process and an empty dict on the others.

        Raises:
            InputError: no image was processed on any rank.
        """
        records = self._records
        if self._distributed:  # all_gather, so that every rank sees an empty set
            records = [record for part in comm.all_gather(records) for record in part]
        unique = {record["image_id"]: record for record in records}
        rows = [unique[image_id] for image_id in self._truth if image_id in unique]
        if not rows:
            raise InputError(f"no image of {self._dataset_name!r} was evaluated: is the set empty?")
        if self._distributed and not comm.is_main_process():
            return OrderedDict()
        if len(rows) < len(self._truth):
            logger.warning("Evaluated %d of %d images only.", len(rows), len(self._truth))
        if self._output_dir:
            os.makedirs(self._output_dir, exist_ok=True)
            with open(os.path.join(self._output_dir, "polyp_per_image.json"), "w") as file:
                json.dump(rows, file, indent=1)
        metrics = _summarize(rows)
        logger.info(
            "Polyp metrics on %s (%d images, score >= %g):\n%s",
            self._dataset_name,
            len(rows),
            self._score_threshold,
            create_small_table(metrics),
        )
        return OrderedDict(polyp=metrics)

    def _predicted_masks(self, instances: Instances, truth: dict[str, Any]) -> np.ndarray:
        """Return the masks at the threshold, best score first: bool (N, H, W)."""
        if not instances.has("pred_masks"):
            raise InputError(
                "PolypEvaluator needs masks, but the model's instances have no 'pred_masks' "
                f"(they have {', '.join(instances.get_fields()) or 'no fields'}): "
                "use a model with a mask head, or InspireCOCOEvaluator for boxes"
            )
        size = (truth["height"], truth["width"])
        self._check_size(instances.image_size, truth)
        instances = instances.to("cpu")
        scores = instances.scores.numpy()
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= self._score_threshold]
        return np.asarray(instances.pred_masks).reshape(-1, *size)[order].astype(bool)

    @staticmethod
    def _check_size(predicted: tuple[int, ...], truth: dict[str, Any]) -> None:
        size = (truth["height"], truth["width"])
        if tuple(predicted) != size:
            raise InputError(
                f"the prediction for {truth['file_name']} is {tuple(predicted)} (H, W), "
                f"the data set says {size}"
            )

    def _components(self, logits: torch.Tensor, truth: dict[str, Any]) -> np.ndarray:
        """Split the map's foreground at the threshold into components: bool (N, H, W)."""
        size = (truth["height"], truth["width"])
        self._check_size(tuple(logits.shape[1:]), truth)
        foreground = 1 - logits.float().softmax(dim=0)[0]
        labels, count = ndimage.label(
            (foreground >= self._score_threshold).cpu().numpy(), structure=np.ones((3, 3))
        )
        masks = labels == np.arange(1, count + 1)[:, None, None]
        areas = masks.sum(axis=(1, 2))
        order = np.argsort(-areas, kind="stable")
        return masks[order[areas[order] >= MIN_COMPONENT]].reshape(-1, *size)


def annotation_masks(record: dict[str, Any]) -> np.ndarray:
    """Draw the annotations of a Detectron2 dataset dict: bool (G, H, W), at the original size.

    Polygons and RLE (compressed or not) are read. Crowd regions and masks without a pixel are left
    out: they are no polyp that could be found.

    Raises:
        InputError: an annotation without a segmentation.
    """
    height, width = record["height"], record["width"]
    masks = []
    for annotation in record.get("annotations", []):
        if annotation.get("iscrowd", 0):
            continue
        segmentation = annotation.get("segmentation")
        if not segmentation:
            raise InputError(f"an annotation of {record['file_name']} has no segmentation")
        if isinstance(segmentation, list):
            rle = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation["counts"], list):
            rle = mask_util.frPyObjects(segmentation, height, width)
        else:
            rle = segmentation
        mask = mask_util.decode(rle).astype(bool)
        if mask.shape != (height, width):
            raise InputError(
                f"a mask of {record['file_name']} is {mask.shape} (H, W), "
                f"the image {(height, width)}"
            )
        if mask.any():
            masks.append(mask)
    return np.stack(masks) if masks else np.zeros((0, height, width), bool)


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
    ious = mask_util.iou(_encode(predicted), _encode(true), [0] * len(true))  # (N, G)
    matches: list[int | None] = []
    for row in ious:
        best = int(np.argmax(row))
        if row[best] >= min_iou:
            matches.append(best)
            ious[:, best] = -1  # taken; `row` is a view, so this one changes too, after its use
        else:
            matches.append(None)
    return matches


def _encode(masks: np.ndarray) -> list[dict[str, Any]]:
    return mask_util.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))


def _by_image_id(dicts: list[dict[str, Any]], dataset_name: str) -> dict[Any, dict[str, Any]]:
    missing = [item.get("file_name", "?") for item in dicts if "image_id" not in item]
    if missing:
        raise InputError(f"images of {dataset_name!r} without image_id: {first_few(missing)}")
    truth = {item["image_id"]: item for item in dicts}
    if len(truth) < len(dicts):
        twice = [item["image_id"] for item in dicts if truth[item["image_id"]] is not item]
        raise InputError(f"image ids of {dataset_name!r} occur twice: {first_few(twice)}")
    return truth


def _judge(truth: dict[str, Any], predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Make the record of one image from its masks, (N, H, W) and (G, H, W)."""
    union_predicted, union_true = predicted.any(axis=0), true.any(axis=0)
    both = int((union_predicted & union_true).sum())
    total = int(union_predicted.sum() + union_true.sum())
    found = sum(match is not None for match in match_polyps(predicted, true))
    return {
        "image_id": truth["image_id"],
        "file_name": truth["file_name"],
        "dice": 2 * both / total if total else 1.0,
        "iou": both / (total - both) if total else 1.0,
        "gt_pixels": int(union_true.sum()),
        "num_gt": len(true),
        "num_pred": len(predicted),
        "found": found,
        "false_positives": len(predicted) - found,
    }


def _summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    positives = [row for row in rows if row["num_gt"]]
    negatives = [row for row in rows if not row["num_gt"]]
    metrics = {}
    if positives:
        metrics["Dice"] = _mean(row["dice"] for row in positives)
        metrics["IoU"] = _mean(row["iou"] for row in positives)
        polyps = sum(row["num_gt"] for row in positives)
        metrics["recall"] = sum(row["found"] for row in positives) / polyps
    else:
        logger.info("No image has a polyp: Dice, IoU and recall are left out.")
    if negatives:
        metrics["specificity"] = _mean(not row["num_pred"] for row in negatives)
    else:
        logger.info("Every image has a polyp: specificity is left out.")
    metrics["Dice_all"] = _mean(row["dice"] for row in rows)
    metrics["fp_per_image"] = _mean(row["false_positives"] for row in rows)
    return metrics


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
