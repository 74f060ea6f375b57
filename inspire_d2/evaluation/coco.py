"""COCO AP that is defined when a model predicts nothing."""

import os
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from inspire_d2.errors import InputError

__all__ = ["InspireCOCOEvaluator"]


class InspireCOCOEvaluator(COCOEvaluator):
    """Detectron2's COCO evaluator, with AP 0 where a model predicts nothing at all.

    Detectron2 then returns NaN for boxes and leaves the masks out, which breaks whatever compares
    or tracks the metrics early in training. Here every task the model has (``segm`` where its
    instances have ``pred_masks``, even empty ones) is evaluated as pycocotools does it: 0 where
    there is ground truth, NaN where there is none (a size or a category without an object).

    Values are in percent, and files in ``output_dir`` are Detectron2's own.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        allow_cached_coco: bool = False,
        **options: Any,
    ) -> None:
        """See Detectron2's ``COCOEvaluator`` for ``tasks``, ``distributed`` and ``options``.

        Args:
            dataset_name: a registered data set; one without a ``json_file`` is converted to
                ``output_dir/NAME_coco_format.json``.
            output_dir: where predictions go; None writes nothing.
            allow_cached_coco: use a converted file that lies there. Off, other than in Detectron2:
                it may be of an earlier state of the data.

        Raises:
            InputError: an unknown data set, one that must be converted without an ``output_dir``,
                one whose annotation file is missing, or one without images.
        """
        # A name that nobody registered would otherwise become a new, empty metadata entry.
        if dataset_name not in DatasetCatalog and dataset_name not in MetadataCatalog:
            raise InputError(f"no data set is registered as {dataset_name!r}")
        json_file = MetadataCatalog.get(dataset_name).get("json_file")
        if json_file is None and output_dir is None:
            raise InputError(
                f"{dataset_name!r} has no COCO json_file: give an output_dir to convert it to"
            )
        # OmegaConf's lists, from a LazyConfig, are not what pycocotools expects.
        tasks = tuple(tasks) if tasks is not None else None
        try:
            super().__init__(
                dataset_name,
                tasks,
                distributed,
                output_dir,
                allow_cached_coco=allow_cached_coco,
                **options,
            )
        except FileNotFoundError as error:
            raise InputError(f"the annotations of {dataset_name!r} are missing: {error}") from error
        if not self._coco_api.imgs:
            source = os.fspath(MetadataCatalog.get(dataset_name).json_file)
            raise InputError(f"{dataset_name!r} has no images ({source})")
        self._dataset_name = dataset_name
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._has_masks = False
        self._img_ids: list[int] | None = None

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Keep the predictions of a batch; arguments as in Detectron2."""
        super().process(inputs, outputs)
        for output in outputs:
            if "instances" in output and output["instances"].has("pred_masks"):
                self._has_masks = True

    def evaluate(self, img_ids: list[int] | None = None) -> dict[str, dict[str, float]]:
        """Return ``{"bbox": {"AP": ...}, "segm": ...}`` on the main process, ``{}`` on the others.

        Args:
            img_ids: evaluate these images only.

        Raises:
            InputError: no image was processed on any rank.
        """
        state = (len(self._predictions), self._has_masks)
        states = comm.all_gather(state) if self._distributed else [state]
        if not any(count for count, _ in states):
            raise InputError(f"no image of {self._dataset_name!r} was evaluated: is the set empty?")
        self._has_masks = any(has_masks for _, has_masks in states)
        self._img_ids = img_ids
        return super().evaluate(img_ids=img_ids)

    def _tasks_from_predictions(self, predictions: list[dict[str, Any]]) -> list[str]:
        tasks = set(super()._tasks_from_predictions(predictions))
        if self._has_masks and not predictions:
            tasks.add("segm")
        return sorted(tasks)

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        if coco_eval is None and iou_type != "keypoints":
            self._logger.warning("No predictions for %s: its metrics are 0.", iou_type)
            coco_eval = self._evaluate_nothing(iou_type)
        return super()._derive_coco_results(coco_eval, iou_type, class_names)

    def _evaluate_nothing(self, iou_type: str) -> COCOeval:
        """Run pycocotools on an empty list of predictions, which its ``loadRes`` refuses."""
        nothing = COCO()
        nothing.dataset = {
            "images": self._coco_api.dataset["images"],
            "categories": self._coco_api.dataset["categories"],
            "annotations": [],
        }
        nothing.createIndex()
        evaluator = COCOeval if self._max_dets_per_image[2] == 100 else COCOevalMaxDets
        coco_eval = evaluator(self._coco_api, nothing, iou_type)
        coco_eval.params.maxDets = self._max_dets_per_image
        if self._img_ids is not None:
            coco_eval.params.imgIds = self._img_ids
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
        return coco_eval
