"""COCO AP that is defined when a model predicts nothing."""

import json
import os
from collections.abc import Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco
from detectron2.utils import comm
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from ..errors import InputError
from .coco_ap import check_backend, evaluate_ap, numbered_from_1

__all__ = ["InspireCOCOEvaluator"]

TASKS = ("bbox", "segm", "keypoints")


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
        tasks: Sequence[str] | str | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        allow_cached_coco: bool = False,
        backend: str = "hotcoco",
        **options: Any,
    ) -> None:
        """See Detectron2's ``COCOEvaluator`` for ``distributed`` and ``options``.

        Args:
            dataset_name: a registered data set; one without a ``json_file`` is converted to
                ``output_dir/NAME_coco_format.json``.
            tasks: one or some of "bbox", "segm" and "keypoints"; None takes those that the model
                predicts.
            output_dir: where predictions go; None writes nothing.
            max_dets_per_image: most detections of an image that AP counts; None is COCO's 100.
            allow_cached_coco: use a converted file that lies there. Off, other than in Detectron2:
                it may be of an earlier state of the data.
            backend: what computes AP: "hotcoco", or "pycocotools" for the same more slowly. In
                place of Detectron2's ``use_fast_impl``. Keypoints are pycocotools' alone.

        Raises:
            InputError: a backend that is not there; an unknown task; a limit that is no number of
                detections; an unknown data set, one that must be converted without an
                ``output_dir``, one whose annotation file is missing, or one without images.
        """
        check_backend(backend)
        # OmegaConf's lists, from a LazyConfig, are not what pycocotools expects.
        tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks or ()) or None
        if unknown := [task for task in tasks or () if task not in TASKS]:
            raise InputError(f"tasks={list(tasks)}: {unknown[0]!r} is none of {', '.join(TASKS)}.")
        limit = max_dets_per_image
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InputError(f"max_dets_per_image={limit!r} must be a whole number from 1 up.")
        self._backend = backend
        # A name that nobody registered would otherwise become a new, empty metadata entry.
        if dataset_name not in DatasetCatalog and dataset_name not in MetadataCatalog:
            raise InputError(f"no data set is registered as {dataset_name!r}")
        json_file = MetadataCatalog.get(dataset_name).get("json_file")
        if json_file is None and output_dir is None:
            raise InputError(
                f"{dataset_name!r} has no COCO json_file: give an output_dir to convert it to"
            )
        try:
            super().__init__(
                dataset_name,
                tasks,
                distributed,
                output_dir,
                max_dets_per_image=limit,
                allow_cached_coco=allow_cached_coco,
                use_fast_impl=False,
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
        return super().evaluate(img_ids=img_ids)

    def _tasks_from_predictions(self, predictions: list[dict[str, Any]]) -> list[str]:
        tasks = set(super()._tasks_from_predictions(predictions))
        if self._has_masks and not predictions:
            tasks.add("segm")
        return sorted(tasks)

    def _eval_predictions(
        self, predictions: list[dict[str, Any]], img_ids: list[int] | None = None
    ) -> None:
        """Save the predictions in COCO's format, and score them unless there is no truth."""
        results = [one for prediction in predictions for one in prediction["instances"]]
        tasks = self._tasks or self._tasks_from_predictions(results)
        self._restore_category_ids(results)
        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            self._logger.info("Saving predictions to %s", path)
            with open(path + ".tmp", "w") as file:
                json.dump(results, file)
            os.replace(path + ".tmp", path)  # a kill leaves the old one or the new
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        self._results.update(self.score_results(results, sorted(tasks), img_ids))

    def score_results(
        self, results: list[dict[str, Any]], tasks: Sequence[str], img_ids: list[int] | None = None
    ) -> dict[str, dict[str, float]]:
        """Score predictions that are in COCO's format already; returns ``{task: {metric: value}}``.

        Args:
            results: with the data set's category ids, as they are saved.
            tasks: "bbox", "segm", "keypoints".
            img_ids: score these images alone.

        Raises:
            InputError: boxes or masks that are not of this data set, or cannot be scored.
        """
        class_names = self._metadata.get("thing_classes")
        return {
            task: self._derive_coco_results(self._score(results, task, img_ids), task, class_names)
            for task in tasks
        }

    def _restore_category_ids(self, results: list[dict[str, Any]]) -> None:
        """Turn the model's classes, 0 to K - 1, into the data set's category ids."""
        ids = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if ids is None:
            return
        category_of = {contiguous: category for category, contiguous in ids.items()}
        for result in results:
            found = result["category_id"]
            if found not in category_of:
                raise InputError(
                    f"the model predicts class {found}, but {self._dataset_name!r} has "
                    f"{len(category_of)} classes: set the model's num_classes to that."
                )
            result["category_id"] = category_of[found]

    def _score(self, results: list[dict[str, Any]], task: str, img_ids: list[int] | None) -> Any:
        if task == "keypoints":
            if not results:
                return None
            return _evaluate_predictions_on_coco(
                numbered_from_1(self._coco_api),
                results,
                task,
                kpt_oks_sigmas=self._kpt_oks_sigmas,
                cocoeval_fn=COCOeval,
                img_ids=img_ids,
                max_dets_per_image=self._max_dets_per_image,
            )
        if not results:
            self._logger.warning("No predictions for %s: its metrics are 0.", task)
        return evaluate_ap(
            self._coco_api,
            results,
            task,
            backend=self._backend,
            max_dets=self._max_dets_per_image,
            img_ids=img_ids,
        )

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        if coco_eval is not None and iou_type != "keypoints":
            self._logger.info("By size, %s:\n%s", iou_type, _table_by_size(coco_eval.stats))
        return super()._derive_coco_results(coco_eval, iou_type, class_names)


def _table_by_size(stats: Sequence[float]) -> str:
    """Lay out COCO's 12 numbers, in percent; - where there is no object of a size."""
    sizes = {"all": (0, 8), "small": (3, 9), "medium": (4, 10), "large": (5, 11)}
    rows = [
        (name, *(f"{100 * stats[k]:.1f}" if stats[k] >= 0 else "-" for k in indices))
        for name, indices in sizes.items()
    ]
    return tabulate(rows, ("objects", "AP", "AR"), tablefmt="pipe", disable_numparse=True)
