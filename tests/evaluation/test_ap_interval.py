"""AP of images drawn anew, against pycocotools on a data set in which they are repeated."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from inspire_d2.errors import InputError
from inspire_d2.evaluation.ap_interval import (
    Matches,
    average_precision,
    match,
    paired_ap_difference,
)

IMAGES, CATEGORIES, SIDE = 9, 3, 100


def truth_of(images: list[dict], annotations: list[dict]) -> COCO:
    coco = COCO()
    categories = [{"id": 1 + k, "name": str(k)} for k in range(CATEGORIES)]
    coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def make_truth(seed: int) -> COCO:
    """Boxes at random, a fifth of them crowds; the last image has none."""
    rng = np.random.default_rng(seed)
    images = [{"id": 10 + 3 * i, "height": SIDE, "width": SIDE} for i in range(IMAGES)]
    annotations = []
    for image in images[:-1]:
        for _ in range(rng.integers(1, 6)):
            x, y, w, h = map(float, rng.integers(5, 50, 4))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.integers(1, CATEGORIES + 1)),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(rng.random() < 0.2),
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    return truth_of(images, annotations)


def make_results(truth: COCO, reach: float, seed: int) -> list[dict]:
    """The truth's boxes moved, twice each, and a false one; images share scores."""
    rng = np.random.default_rng(seed)
    results = []
    for image in truth.dataset["images"]:
        # Within an image no two are equal: their copies would be ranked in another order.
        scores = list(rng.permutation(20) / 20)
        for a in truth.imgToAnns[image["id"]] * 2:
            dx, dy = rng.normal(0, reach, 2)
            x, y, w, h = a["bbox"]
            results.append({k: a[k] for k in ("image_id", "category_id")})
            results[-1] |= {"bbox": [x + dx, y + dy, w, h], "score": float(scores.pop())}
    results.append({"image_id": 10 + 3 * (IMAGES - 1), "category_id": 1, "score": 0.9,
                    "bbox": [5.0, 5.0, 20.0, 20.0]})  # fmt: skip
    return results


def repeated_ap(truth: COCO, results: list[dict], times: np.ndarray) -> float:
    """Score a data set that holds each image so many times, by pycocotools alone."""
    images, annotations, found = [], [], []
    for image, count in zip(truth.dataset["images"], times, strict=True):
        for _ in range(count):
            new = len(images) + 1
            images.append(image | {"id": new})
            for a in truth.imgToAnns[image["id"]]:
                annotations.append(a | {"id": len(annotations) + 1, "image_id": new})
            found += [r | {"image_id": new} for r in results if r["image_id"] == image["id"]]
    again = truth_of(images, annotations)
    with contextlib.redirect_stdout(io.StringIO()):
        scorer = COCOeval(again, again.loadRes(found), "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer.stats[0]


@pytest.mark.parametrize("seed", range(4))
def test_ap_of_a_draw_is_that_of_repeated_images(seed: int) -> None:
    truth = make_truth(seed)
    results = make_results(truth, 4.0, seed)
    matches = match(truth, results, "bbox")
    rng = np.random.default_rng(seed)
    draws = [np.ones(IMAGES, int)]
    draws += [np.bincount(rng.integers(IMAGES, size=IMAGES), minlength=IMAGES) for _ in range(5)]
    for times in draws:
        expected = repeated_ap(truth, results, times)
        assert 0.05 < expected < 0.95
        assert average_precision(matches, times) == pytest.approx(expected, abs=1e-12)


def test_no_predictions_and_no_objects() -> None:
    truth = make_truth(0)
    nothing = match(truth, [], "bbox")
    assert average_precision(nothing, np.ones(IMAGES, int)) == 0
    only_the_empty = np.array([0] * (IMAGES - 1) + [2])
    found = match(truth, make_results(truth, 1.0, 0), "bbox")
    assert np.isnan(average_precision(found, only_the_empty))


def test_difference_is_that_of_the_aps_and_within_its_interval() -> None:
    truth = make_truth(1)
    good = [match(truth, make_results(truth, 2.0, s), "bbox") for s in (1, 2)]
    bad = [match(truth, make_results(truth, 8.0, s), "bbox") for s in (1, 2)]
    every = np.ones(IMAGES, int)
    expected = np.mean(
        [average_precision(g, every) - average_precision(b, every)
         for g, b in zip(good, bad, strict=True)]
    )  # fmt: skip
    difference = paired_ap_difference([good], [bad], resamples=100)
    assert difference.mean == pytest.approx(100 * expected)
    assert difference.low < difference.mean < difference.high
    assert difference.is_clear
    assert paired_ap_difference([good], [good], resamples=20)[:3] == (0, 0, 0)


def few_objects(positives: int, found: int, images: int = 20) -> Matches:
    """Matches of a model that finds so many of so many objects, each on an image of its own."""
    box = {"bbox": [5, 5, 20, 20], "category_id": 1}
    rows = [{"id": i, "height": SIDE, "width": SIDE} for i in range(1, images + 1)]
    objects = [box | {"id": i, "image_id": i, "area": 400, "iscrowd": 0}
               for i in range(1, positives + 1)]  # fmt: skip
    results = [box | {"image_id": i, "score": 0.9} for i in range(1, found + 1)]
    return match(truth_of(rows, objects), results, "bbox")


def test_draws_without_an_object_are_drawn_anew() -> None:
    """With three objects in 20 images one draw in 27 has none, and no AP."""
    good, bad = few_objects(3, 3), few_objects(3, 1)
    difference = paired_ap_difference([[good]], [[bad]], resamples=200)
    # Of one object in three (COCO's recalls to 0.33) AP is 34 / 101.
    assert difference.mean == pytest.approx(100 * (1 - 34 / 101))
    # Some draws hold the object that both find alone, some do not hold it.
    assert (difference.low, difference.high) == (0, 100)
    clear = few_objects(1, 1), few_objects(1, 0)
    assert paired_ap_difference([[clear[0]]], [[clear[1]]], resamples=50) == (100, 100, 100)


def test_sets_without_an_object_have_no_ap() -> None:
    empty, good, bad = few_objects(0, 0), few_objects(3, 3), few_objects(3, 1)
    nothing = paired_ap_difference([[empty]], [[empty]], resamples=5)
    assert np.isnan(nothing).all() and not nothing.is_clear
    alone = paired_ap_difference([[good]], [[bad]], resamples=20)
    assert paired_ap_difference([[empty], [good]], [[empty], [bad]], resamples=20) == alone


def test_interval_narrows_with_images() -> None:
    """Ten copies of the images are as good as ten times as many: an interval a third as wide."""
    truth = make_truth(2)
    good, bad = (make_results(truth, reach, 0) for reach in (3.0, 6.0))
    one = paired_ap_difference(
        [[match(truth, good, "bbox")]], [[match(truth, bad, "bbox")]], resamples=200
    )
    images, annotations, found = [], [], ([], [])
    for copy_ in range(10):
        for image in truth.dataset["images"]:
            images.append(image | {"id": image["id"] + 1000 * copy_})
        for a in truth.dataset["annotations"]:
            new = {"id": len(annotations) + 1, "image_id": a["image_id"] + 1000 * copy_}
            annotations.append(a | new)
        for results, into in zip((good, bad), found, strict=True):
            into += [r | {"image_id": r["image_id"] + 1000 * copy_} for r in results]
    many = truth_of(images, annotations)
    ten = paired_ap_difference(
        [[match(many, found[0], "bbox")]], [[match(many, found[1], "bbox")]], resamples=200
    )
    ratio = (ten.high - ten.low) / (one.high - one.low)
    assert 0.2 < ratio < 0.5


def test_unpaired_matches_are_refused() -> None:
    truth = make_truth(0)
    one = match(truth, make_results(truth, 1.0, 0), "bbox")
    other = match(make_truth(3), [], "bbox")
    for ours, theirs in (([], []), ([[one]], [[one, one]]), ([[one]], [[other]]), ([[]], [[]])):
        with pytest.raises(InputError, match="paired matches"):
            paired_ap_difference(ours, theirs)
