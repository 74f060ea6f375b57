"""Polyp metrics of instances and of semantic maps: Dice, IoU, polyp-wise recall, false positives.

Shape shorthand in this module: N predictions, G polyps, H, W (pixels of the original image).
"""

import json
import logging
import os
from collections import OrderedDict
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import create_small_table

from inspire_d2.errors import InputError, first_few
from inspire_d2.evaluation import polyp_tables as tables
from inspire_d2.evaluation.polyp_masks import (
    annotation_masks,
    components,
    crowd_region,
    foreground_map,
    instance_map,
    instance_masks,
)
from inspire_d2.evaluation.polyp_match import judge, match_polyps

__all__ = ["PolypEvaluator", "annotation_masks", "match_polyps"]

logger = logging.getLogger(__name__)


class PolypEvaluator(DatasetEvaluator):
    """Compare predictions with the polyps' masks: at a score threshold, and by PraNet's protocol.

    Predictions are a detector's instances, or the 8-connected components, of 30 pixels and more,
    of a semantic map's foreground (the probability of any class but 0), the largest first. Those
    of score >= ``score_threshold`` count.

    Every image is judged at its original size. The union of its predicted masks and the union of
    its true masks have a Dice ``2 |P & T| / (|P| + |T|)`` and an IoU ``|P & T| / |P | T|``. A polyp
    is found when a prediction has a mask IoU >= 0.5 with it; predictions choose in the order of
    their scores, each takes the best polyp still free, and one that takes none is a false positive.

    Crowds (``iscrowd``) are left out: their pixels are taken out of predictions and maps, and a
    prediction that finds no polyp and half of which or more lay on a crowd does not count.

    ``evaluate`` returns ``{"polyp": {...}}`` with fractions 0..1 (not percent) but for the last:

    ============  ==================================================================================
    Dice, IoU     mean over the images that have a polyp; an image without a prediction counts 0
    Dice_all      mean over both kinds; nothing predicted where there is nothing counts 1
    recall        polyps found / polyps, over the whole set
    specificity   images without a polyp that have no prediction / images without a polyp
    fp_per_image  false positives / images, 0 or more
    ============  ==================================================================================

    An image with nothing but crowds is of neither kind, and counts for false positives alone.

    A set without polyps has no Dice, IoU and recall, one without negatives no specificity, one of
    crowds no Dice_all: these are left out, and a line is logged. All others are defined, also when
    nothing is predicted.

    With ``protocol`` there is also ``{"polyp_protocol": {...}}``, the figures of the field's
    tables, which need no threshold (docs/polyp_protocol.md): mDice, maxDice, mIoU, maxIoU, wFm, Sm,
    mEm, maxEm and MAE, over the images that have a polyp. They are of a map, of a segmenter the
    foreground's probability, of a detector the pixel-wise maximum of score x mask over all its
    instances. They need ``pysodmetrics``; without it they are left out, and a line is logged.
    """

    def __init__(
        self,
        dataset_name: str,
        score_threshold: float = 0.5,
        output_dir: str | None = None,
        distributed: bool = True,
        protocol: bool = True,
    ) -> None:
        """Read the ground truth of a registered data set.

        Args:
            dataset_name: a name in Detectron2's ``DatasetCatalog``; its dicts need ``image_id``,
                ``file_name``, ``height``, ``width`` and annotations with polygons or RLE. An
                image's ``centre`` is read from its dict, or from the set's COCO json.
            score_threshold: 0..1; predictions below it do not exist for the figures of ``polyp``.
            output_dir: where ``polyp_per_image.json`` and ``polyp_table.md``, ``.json`` and
                ``.csv`` go, the latter with a row for each centre; None writes nothing.
            distributed: gather the records of all ranks.
            protocol: score the maps by PraNet's protocol too: 20 to 40 ms for each image of
                352 x 352 that has a polyp.

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
        dicts = DatasetCatalog.get(dataset_name)
        self._truth = _by_image_id(dicts, dataset_name)
        self._centres = tables.image_centres(dicts, dataset_name)
        self._score_map = _load_protocol() if protocol else None
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
            self._records.append(self._judge(self._truth[item["image_id"]], output))

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Return ``{"polyp": metrics}`` on the main process and an empty dict on the others.

        With the protocol, and a polyp in the set, ``polyp_protocol`` is there too.

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
        results = OrderedDict(polyp=tables.summarize(rows))
        if figures := tables.protocol_figures(rows):
            results["polyp_protocol"] = figures
        lines = tables.tabulate(rows)
        if self._output_dir:
            os.makedirs(self._output_dir, exist_ok=True)
            with open(os.path.join(self._output_dir, "polyp_per_image.json"), "w") as file:
                json.dump([tables.image_figures(row) for row in rows], file, indent=1)
            tables.write(self._output_dir, lines, self._dataset_name, self._score_threshold)
        self._log(results, lines)
        return results

    def _judge(self, truth: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
        """Make the record of one image."""
        true = annotation_masks(truth)
        crowd = crowd_region(truth, true)
        scored = self._score_map is not None and len(true) > 0
        score_map: np.ndarray | None = None
        if "instances" in output:
            masks, scores = instance_masks(output["instances"], truth)
            if scored:
                score_map = instance_map(masks, scores)
            masks = masks[scores >= self._score_threshold]
        elif "sem_seg" in output:
            score_map = foreground_map(output["sem_seg"], truth)
            masks = components(score_map, self._score_threshold)
        else:
            raise InputError("PolypEvaluator needs a model that returns instances or sem_seg")
        record = judge(truth, masks, true, crowd)
        if truth["image_id"] in self._centres:
            record["centre"] = self._centres[truth["image_id"]]
        if scored:
            score_map[crowd] = score_map[~crowd].min()  # background, however it is stretched
            record["protocol"] = self._score_map(score_map, true.any(axis=0))
        return record

    def _log(self, results: dict[str, dict[str, float]], lines: list[dict[str, Any]]) -> None:
        metrics = results["polyp"]
        if "Dice" not in metrics:
            logger.info("No image has a polyp: Dice, IoU and recall are left out.")
        if "specificity" not in metrics:
            logger.info("Every image has a polyp: specificity is left out.")
        logger.info(
            "Polyp metrics on %s (%d images, score >= %g):\n%s",
            self._dataset_name,
            lines[-1]["images"],
            self._score_threshold,
            create_small_table(metrics),
        )
        if "polyp_protocol" in results:
            logger.info(
                "PraNet's protocol on %s (%d images with polyps):\n%s",
                self._dataset_name,
                lines[-1]["positives"],
                create_small_table(results["polyp_protocol"]),
            )
        if len(lines) > 2:
            logger.info("By centre:\n%s", tables.markdown(lines))


def _load_protocol() -> Any:
    """Return ``score_map``, or None, having said so, where its library is missing."""
    try:
        from inspire_d2.evaluation.polyp_protocol import score_map
    except ImportError as error:
        if (error.name or "").startswith("inspire_d2"):
            raise
        logger.warning(
            "PraNet's protocol is left out (%s): pip install --no-deps pysodmetrics && pip install"
            " scikit-image scikit-learn (with its dependencies pysodmetrics would put a second"
            " OpenCV over the first).",
            error,
        )
        return None
    return score_map


def _by_image_id(dicts: list[dict[str, Any]], dataset_name: str) -> dict[Any, dict[str, Any]]:
    missing = [item.get("file_name", "?") for item in dicts if "image_id" not in item]
    if missing:
        raise InputError(f"images of {dataset_name!r} without image_id: {first_few(missing)}")
    truth = {item["image_id"]: item for item in dicts}
    if len(truth) < len(dicts):
        twice = [item["image_id"] for item in dicts if truth[item["image_id"]] is not item]
        raise InputError(f"image ids of {dataset_name!r} occur twice: {first_few(twice)}")
    return truth
