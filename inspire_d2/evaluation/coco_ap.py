"""COCO's AP and AR of boxes or masks, by a fast library or by pycocotools."""

from collections.abc import Mapping
from typing import Any

from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.coco_checks import no_garbage_collection
from ..errors import InputError
from .coco_results import SHAPES, check_results

__all__ = ["BACKENDS", "check_backend", "evaluate_ap", "numbered_from_1"]

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

    Raises:
        InputError: results that are not of the truth's images, or cannot be scored.
    """
    check_results(truth, results, task)
    try:
        content = _scored_content(truth, task)
    except KeyError as error:
        raise InputError(f"the truth cannot be scored: one of its entries lacks {error}") from error
    # New ones: loadRes adds keys to each result.
    keys = ("image_id", "category_id", "score", SHAPES[task])
    results = [{key: one[key] for key in keys} for one in results]
    if backend == "hotcoco" and list(max_dets) == STANDARD_MAX_DETS:
        import hotcoco

        try:
            hot_truth = hotcoco.COCO(content)
            hot_results = hot_truth.loadRes(results)
        except ValueError as error:  # of a field that has another type
            raise InputError(f"the truth or the predictions cannot be scored: {error}") from error
        scorer = hotcoco.COCOeval(hot_truth, hot_results, task)
    else:
        kind = COCOeval if max_dets[2] == 100 else COCOevalMaxDets
        truth = _index(content)
        # Of an empty list pycocotools' loadRes makes nothing.
        found = truth.loadRes(results) if results else _index(content | {"annotations": []})
        scorer = kind(truth, found, task)
        scorer.params.maxDets = list(max_dets)
    if img_ids is not None:
        scorer.params.imgIds = list(img_ids)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return scorer


@no_garbage_collection()
def _scored_content(truth: COCO, task: str) -> dict[str, list[dict[str, Any]]]:
    """Return what a task's scores take of the truth, as a COCO json; its masks are not copied.

    A file may hold anything besides, of any type, which hotcoco would read, and refuse. The
    annotations have numbers of their own, as in :func:`numbered_from_1`.
    """
    annotations = [
        {
            "id": number,
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": one["bbox"],
            "area": one["area"],
            "iscrowd": int(one.get("iscrowd", 0)),
        }
        for number, one in enumerate(truth.dataset["annotations"], start=1)
    ]
    if task == "segm":
        for mine, one in zip(annotations, truth.dataset["annotations"], strict=True):
            mine["segmentation"] = one.get("segmentation") or _no_mask(truth.imgs[one["image_id"]])
    return {
        "images": [{k: one[k] for k in ("id", "width", "height")} for one in truth.imgs.values()],
        "categories": [{"id": one["id"], "name": str(one["name"])} for one in truth.cats.values()],
        "annotations": annotations,
    }


def _no_mask(image: Mapping[str, Any]) -> dict[str, Any]:
    """Return an empty mask: a crowd may have a box alone."""
    height, width = image["height"], image["width"]
    return {"size": [height, width], "counts": [height * width]}


def numbered_from_1(truth: COCO) -> COCO:
    """Return the truth with numbers of its own: for pycocotools a match with object 0 is none."""
    numbered = enumerate(truth.dataset["annotations"], start=1)
    return _index(truth.dataset | {"annotations": [one | {"id": k} for k, one in numbered]})


def _index(content: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco
