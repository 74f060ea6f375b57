"""Scoring predictions that an evaluation has saved, without the model that made them."""

import json
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from ..data.coco_checks import check_references, read_coco
from ..data.coco_shapes import check_boxes, check_scored, check_segmentations
from ..errors import InputError, first_few
from .coco import InspireCOCOEvaluator
from .coco_results import SHAPES, check_results, check_runs

__all__ = ["SavedEvaluator", "read_results", "read_truth"]

# COCO's numbers 6 to 11: the recall of 1, 10 and 100 detections an image, and of 100 by size.
RECALLS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class SavedEvaluator(InspireCOCOEvaluator):
    """InspireCOCOEvaluator for predictions in COCO's format, with recalls among the metrics."""

    def __init__(self, truth_json: str, *, backend: str = "hotcoco") -> None:
        """Read the ground truth.

        Raises:
            InputError: it cannot be read, has nothing to find, or there is no such backend.
        """
        self.truth_json, self.truth = truth_json, read_truth(truth_json)
        self.categories = sorted(self.truth["categories"], key=lambda one: one["id"])
        # Detectron2 knows data sets by name; this one is nobody else's.
        name = f"predictions_{uuid.uuid4().hex}"
        names = [one["name"] for one in self.categories]
        MetadataCatalog.get(name).set(json_file=str(truth_json), thing_classes=names)
        try:
            super().__init__(name, distributed=False, backend=backend)
        finally:
            MetadataCatalog.pop(name)

    def tasks_of(self, results: Sequence[dict[str, Any]]) -> list[str]:
        """Name the tasks that results are for; where there are none, all that the truth has."""
        rows = results or self.truth["annotations"]
        some = any if results else all
        return [task for task, key in SHAPES.items() if some(key in one for one in rows)]

    def score_results(
        self, results: list[dict[str, Any]], tasks: Sequence[str], img_ids: list[int] | None = None
    ) -> dict[str, dict[str, float]]:
        """Score results, as in InspireCOCOEvaluator.

        Raises:
            InputError: masks are to be scored where the truth has none, or where its or those that
                were predicted are broken; and see ``check_results``.
        """
        if "segm" in tasks:
            bare = [a["id"] for a in self.truth["annotations"] if "segmentation" not in a]
            if bare:
                raise InputError(
                    f"the ground truth's annotation {bare[0]} has no mask: score bbox alone"
                )
            check_segmentations(self.truth_json, self.truth)
            check_results(self._coco_api, results, "segm")
            check_runs(results)
        return super().score_results(results, tasks, img_ids)

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        metrics = super()._derive_coco_results(coco_eval, iou_type, class_names)
        stats = coco_eval.stats[6:12]
        recalls = (100 * float(value) if value >= 0 else float("nan") for value in stats)
        return metrics | dict(zip(RECALLS, recalls, strict=True))


def read_results(path: str) -> list[dict[str, Any]]:
    """Read predictions in COCO's format, such as a run's coco_instances_results.json.

    Raises:
        InputError: the file cannot be read, or holds no list of predictions.
    """
    results = _read_json(path)
    if not isinstance(results, list):
        kind = "a COCO annotation file" if _is_truth(results) else f"a {type(results).__name__}"
        raise InputError(f"{path} holds {kind}, not a list of predictions")
    for index, one in enumerate(results):
        if not isinstance(one, dict):
            raise InputError(f"{path}: prediction [{index}] is not an object with keys")
    return results


def read_truth(path: str) -> dict[str, Any]:
    """Read COCO annotations, with the checks that training makes of their references and boxes.

    Raises:
        InputError: the file cannot be read, is no COCO annotation file, annotates nothing, or
            something that cannot be scored.
    """
    truth = read_coco(path)
    if not truth["annotations"]:
        raise InputError(f"{path} has no annotations: there is nothing to score on")
    names = Counter(str(one["name"]) for one in truth["categories"])
    if twice := [name for name, number in names.items() if number > 1]:
        raise InputError(
            f"{path}: several of its categories are called {first_few(twice)}: scores by category "
            "would mix them up; rename them"
        )
    check_references(path, truth)
    check_boxes(path, truth)
    check_scored(path, truth)
    return truth


def _is_truth(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "categories")
    )


def _read_json(path: str) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file: {error}") from error
