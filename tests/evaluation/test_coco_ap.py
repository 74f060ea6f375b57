"""Both backends against pycocotools used by hand, on real COCO: 12 numbers, boxes and masks."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from inspire_d2.errors import InputError
from inspire_d2.evaluation.coco_ap import BACKENDS, check_backend, evaluate_ap

KINDS = ("random", "good", "on crowds", "with ties")


@pytest.fixture(scope="module")
def truth(shared_datasets: Path) -> COCO:
    return COCO(str(shared_datasets / "coco/annotations/instances_val2017.json"))


def encode(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    return rle | {"counts": rle["counts"].decode()}


def result(annotation: dict, box: list[float], mask: np.ndarray, score: float) -> dict[str, Any]:
    names = ("image_id", "category_id")
    mine = {name: annotation[name] for name in names}
    return mine | {"bbox": box, "segmentation": encode(mask), "score": score}


def make_results(truth: COCO, kind: str) -> list[dict[str, Any]]:
    """Predictions made of the ground truth, moved a little or a lot, seeded."""
    rng = np.random.default_rng(0)
    results = []
    for annotation in truth.anns.values():
        if annotation["iscrowd"] != (kind == "on crowds"):
            continue
        mask, (x, y, w, h) = truth.annToMask(annotation), annotation["bbox"]
        copies = 4 if kind == "on crowds" else 1
        for _ in range(copies):
            reach = 0.6 if kind == "random" else 0.08
            dx, dy = rng.normal(0, reach, 2) * (w, h)
            moved = np.roll(mask, (round(dy), round(dx)), (0, 1))
            score = float(rng.integers(1, 4) / 4 if kind == "with ties" else rng.random())
            results.append(result(annotation, [x + dx, y + dy, w, h], moved, score))
            if kind == "random":
                other = int(rng.choice(truth.getCatIds()))
                results.append(result(annotation | {"category_id": other}, [x, y, w, h], mask, 0.5))
    return results


def by_pycocotools(truth: COCO, results: list, task: str, kind: type = COCOeval) -> COCOeval:
    results = copy.deepcopy(results)
    for one in results:
        if task == "segm":
            del one["bbox"]
    scorer = kind(truth, truth.loadRes(results), task)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return scorer


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("kind", KINDS)
def test_twelve_numbers_are_pycocotools(truth: COCO, kind: str, task: str, backend: str) -> None:
    results = make_results(truth, kind)
    before = json.dumps(results)
    expected = by_pycocotools(truth, results, task)
    scorer = evaluate_ap(truth, results, task, backend=backend, max_dets=[1, 10, 100])
    np.testing.assert_allclose(scorer.stats, expected.stats, atol=1e-6)
    # by category, IoU, recall and size
    np.testing.assert_allclose(scorer.eval["precision"], expected.eval["precision"], atol=1e-6)
    assert json.dumps(results) == before
    if kind == "good":
        assert scorer.stats[0] > 0.3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_no_results_score_zero(truth: COCO, task: str, backend: str) -> None:
    scorer = evaluate_ap(truth, [], task, backend=backend, max_dets=[1, 10, 100])
    np.testing.assert_array_equal(scorer.stats, np.zeros(12))


@pytest.mark.parametrize("backend", BACKENDS)
def test_some_images_alone(truth: COCO, backend: str) -> None:
    chosen = sorted(truth.imgs)[:7]
    results = make_results(truth, "good")
    small = COCO()
    small.dataset = truth.dataset | {
        "images": [one for one in truth.dataset["images"] if one["id"] in chosen],
        "annotations": [a for a in truth.dataset["annotations"] if a["image_id"] in chosen],
    }
    small.createIndex()
    mine = [one for one in results if one["image_id"] in chosen]
    expected = by_pycocotools(small, mine, "bbox").stats
    scorer = evaluate_ap(
        truth, results, "bbox", backend=backend, max_dets=[1, 10, 100], img_ids=chosen
    )
    np.testing.assert_allclose(scorer.stats, expected, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_numbers_of_detections(truth: COCO, backend: str) -> None:
    results = make_results(truth, "random")
    scorer = COCOevalMaxDets(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
    scorer.params.maxDets = [1, 2, 3]
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    mine = evaluate_ap(truth, results, "bbox", backend=backend, max_dets=[1, 2, 3])
    np.testing.assert_allclose(mine.stats, scorer.stats, atol=1e-9)


MASK = encode(np.ones((6, 4)))
RIGHT = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 6], "segmentation": MASK, "score": 0.5}


def small_truth(**changes: dict[str, Any]) -> COCO:
    """One object on an image of 4 x 6 pixels, with fields of its image, category or annotation."""
    rows = {
        "images": {"id": 1, "height": 6, "width": 4},
        "categories": {"id": 1, "name": "polyp"},
        "annotations": {k: v for k, v in RIGHT.items() if k != "score"}
        | {"id": 1, "area": 24, "iscrowd": 0},
    }
    small = COCO()
    small.dataset = {key: [row | changes.get(key, {})] for key, row in rows.items()}
    small.createIndex()
    return small


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("task", "changes", "sentence"),
    [
        ("bbox", {"image_id": 7}, "1 of 2 predictions are of images that .* lacks .image_id 7"),
        ("segm", {"category_id": 7}, "1 of 2 predictions are of categories that .*category_id 7"),
        ("segm", {"score": float("nan")}, "score that is not a finite number: .1."),
        ("segm", {"segmentation": encode(np.ones((4, 6)))}, "a mask of 4x6 on image 1, .* 6x4"),
        ("segm", {"segmentation": [[1, 1, 3, 1, 3, 3]]}, "not a compressed RLE: .1."),
        ("bbox", {"bbox": [1, 2, 3, float("nan")]}, "not four finite numbers: .1."),
    ],
)
def test_what_is_not_of_the_truth_is_refused(
    backend: str, task: str, changes: dict[str, Any], sentence: str
) -> None:
    small = small_truth()
    options = {"backend": backend, "max_dets": [1, 10, 100]}
    assert evaluate_ap(small, [RIGHT], task, **options).stats[0] == pytest.approx(1)
    with pytest.raises(InputError, match=sentence):
        evaluate_ap(small, [RIGHT, RIGHT | changes], task, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_fields_that_are_not_scored_may_hold_anything(task: str, backend: str) -> None:
    """As tools write them: CVAT's license "" and date_captured 0, others' counts as text."""
    truth = small_truth(
        images={"license": "", "date_captured": 0, "flickr_url": 0, "file_name": 5},
        categories={"name": None, "supercategory": 3, "frequency": 1},
        annotations={"num_keypoints": "0", "is_group_of": "no", "keypoints": None, "obb": "x"}
        | ({"segmentation": {}} if task == "bbox" else {}),
    )
    other = "segmentation" if task == "bbox" else "bbox"
    result = RIGHT | {"id": "first", "area": None, other: "none"}
    scorer = evaluate_ap(truth, [result], task, backend=backend, max_dets=[1, 10, 100])
    assert scorer.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("segmentation", [None, [], {}])
def test_a_crowd_without_a_mask_is_nothing(segmentation: Any, backend: str) -> None:
    truth = small_truth()
    crowd = {"id": 2, "iscrowd": 1, "segmentation": segmentation}
    truth.dataset["annotations"].append(truth.dataset["annotations"][0] | crowd)
    scorer = evaluate_ap(truth, [RIGHT], "segm", backend=backend, max_dets=[1, 10, 100])
    assert scorer.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_object_may_have_the_id_0(backend: str) -> None:
    truth = small_truth(annotations={"id": 0})
    scorer = evaluate_ap(truth, [RIGHT], "bbox", backend=backend, max_dets=[1, 10, 100])
    assert scorer.stats[0] == pytest.approx(1)


@pytest.mark.parametrize(("task", "field"), [("bbox", "area"), ("segm", "bbox")])
def test_a_truth_that_lacks_what_is_scored(task: str, field: str) -> None:
    truth = small_truth()
    del truth.dataset["annotations"][0][field]
    with pytest.raises(InputError, match=f"truth cannot be scored: .* lacks '{field}'"):
        evaluate_ap(truth, [RIGHT], task, backend="hotcoco", max_dets=[1, 10, 100])


def test_unknown_or_missing_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'fast'.*hotcoco, pycocotools"):
        check_backend("fast")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    check_backend("pycocotools")
    with pytest.raises(InputError, match="pip install hotcoco, or set backend='pycocotools'"):
        check_backend("hotcoco")
