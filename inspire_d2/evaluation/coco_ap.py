"""COCO's AP and AR of boxes or masks, by a fast library or by pycocotools."""

from typing import Any

from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..errors import InputError
from .coco_results import check_results

__all__ = ["BACKENDS", "check_backend", "evaluate_ap"]

BACKENDS = ("hotcoco", "pycocotools")
STANDARD_MAX_DETS = [1, 10, 100]


def check_backend(backend: str) -> None:
    """Raise InputError if there is no such backend, or it is not installed."""
    if backend not in BACKENDS:
        raise InputError(f"backend={backend!r}: it is one of {', '.join(BACKENDS)}.")
    if backend == "hotcoco":
        try:
            import hotcoco  # noqa: F401
        except ImportError as error:
            raise InputError(
                f"backend='hotcoco' does not import ({error}): pip install hotcoco, or set "
                "backend='pycocotools', which is slower."
            ) from error


def evaluate_ap(
    truth: COCO,
    results: list[dict[str, Any]],
    task: str,
    *,
    backend: str,
    max_dets: list[int],
    img_ids: list[int] | None = None,
) -> Any:
    """Score results in COCO's format; returns an evaluator with ``stats`` (12) and ``eval``.

    Args:
        truth: the ground truth.
        results: with ``image_id``, ``category_id``, ``score`` and ``bbox`` or ``segmentation``;
            may be empty, which scores 0 where there is ground truth.
        task: "bbox" or "segm", which takes areas from masks even where there are boxes.
        backend: one of BACKENDS. Numbers of detections per image other than COCO's 1, 10 and 100
            are always scored by Detectron2's extension of pycocotools.
        img_ids: score these images alone.

    The backends agree but for an object whose annotation has the id 0: pycocotools takes 0 for "no
    object", and so counts it as missed.

    Raises:
        InputError: results that are not of the truth's images, or cannot be scored.
    """
    check_results(truth, results, task)
    if task == "segm":
        results = [{k: v for k, v in one.items() if k != "bbox"} for one in results]
    if backend == "hotcoco" and list(max_dets) == STANDARD_MAX_DETS:
        import hotcoco

        try:
            hot_truth = hotcoco.COCO(truth.dataset)
            hot_results = hot_truth.loadRes(results)
        except ValueError as error:  # of a field that has another type
            raise InputError(f"the truth or the predictions cannot be scored: {error}") from error
        scorer = hotcoco.COCOeval(hot_truth, hot_results, task)
    else:
        kind = COCOeval if max_dets[2] == 100 else COCOevalMaxDets
        # loadRes adds keys to each result.
        found = truth.loadRes([dict(one) for one in results]) if results else _nothing(truth)
        scorer = kind(truth, found, task)
        scorer.params.maxDets = list(max_dets)
    if img_ids is not None:
        scorer.params.imgIds = list(img_ids)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return scorer


def _nothing(truth: COCO) -> COCO:
    """Return an empty list of results in the form that pycocotools' ``loadRes`` refuses to make."""
    nothing = COCO()
    nothing.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [],
    }
    nothing.createIndex()
    return nothing
