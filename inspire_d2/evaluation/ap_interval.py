"""How sure a difference of AP is: COCO's AP of images drawn anew, and a paired bootstrap of it.

AP is no mean over images, so that a bootstrap must rank all detections of each draw again. Objects
and detections of an image are matched once; a draw only says how often each image counts.

Shape shorthand in this module:
    S seeds, I images of one test set, D detections, K categories, T = 10 IoU thresholds.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO

from inspire_d2.errors import InputError

from .coco_ap import STANDARD_MAX_DETS, evaluate_ap
from .compare import Difference, percentile_interval

__all__ = ["Matches", "average_precision", "match", "paired_ap_difference"]

RECALLS = np.linspace(0, 1, 101)  # COCO's


class Matches(NamedTuple):
    """One model's detections of a test set, by falling score, and what they hit."""

    image: np.ndarray  # (D,) which image, 0..I - 1, by rising image id
    category: np.ndarray  # (D,) 0..K - 1
    hit: np.ndarray  # (T, D) whether it is matched with an object
    ignored: np.ndarray  # (T, D) whether it counts neither way, as on a crowd
    objects: np.ndarray  # (K, I) objects to find


def match(truth: COCO, results: list[dict[str, Any]], task: str) -> Matches:
    """Match detections in COCO's format with the truth, as pycocotools does for AP.

    Args:
        task: "bbox" or "segm".

    Raises:
        InputError: results that are not of the truth's images, or cannot be scored.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        scorer = evaluate_ap(
            truth, results, task, backend="pycocotools", max_dets=STANDARD_MAX_DETS
        )
    number = {image: i for i, image in enumerate(scorer.params.imgIds)}
    kind = {category: k for k, category in enumerate(scorer.params.catIds)}
    every_size = list(scorer.params.areaRng[0])
    parts = [e for e in scorer.evalImgs if e is not None and list(e["aRng"]) == every_size]
    objects = np.zeros((len(kind), len(number)), int)
    for e in parts:
        objects[kind[e["category_id"]], number[e["image_id"]]] = np.sum(e["gtIgnore"] == 0)
    parts = [e for e in parts if e["dtScores"]]
    thresholds = len(scorer.params.iouThrs)
    if not parts:
        nothing = np.zeros((thresholds, 0), bool)
        return Matches(np.zeros(0, int), np.zeros(0, int), nothing, nothing, objects)
    counts = [len(e["dtScores"]) for e in parts]
    # Stable, and with the images in their order, as pycocotools ranks equal scores.
    order = np.argsort(-np.concatenate([e["dtScores"] for e in parts]), kind="mergesort")
    return Matches(
        np.repeat([number[e["image_id"]] for e in parts], counts)[order],
        np.repeat([kind[e["category_id"]] for e in parts], counts)[order],
        np.concatenate([e["dtMatches"] for e in parts], axis=1)[:, order] > 0,
        np.concatenate([e["dtIgnore"] for e in parts], axis=1)[:, order] > 0,
        objects,
    )


def average_precision(matches: Matches, times: np.ndarray) -> float:
    """Return COCO's AP, 0..1, of a test set that holds image i ``times[i]`` times (I,).

    Copies of a detection are ranked side by side. NaN where the images drawn have no object.
    """
    found = matches.objects @ times
    precisions = [
        _precision_at_recalls(matches, times, k, count) for k, count in enumerate(found) if count
    ]
    return float(np.mean(precisions)) if precisions else float("nan")


def _precision_at_recalls(
    matches: Matches, times: np.ndarray, category: int, objects: int
) -> np.ndarray:
    """Return a category's precision at COCO's recalls, averaged over them: (T,)."""
    chosen = matches.category == category
    weight = np.where(matches.ignored[:, chosen], 0, times[matches.image[chosen]])
    hit = matches.hit[:, chosen]
    hits = np.cumsum(weight * hit, axis=1)
    ranked = np.cumsum(weight, axis=1)
    precision = hits / np.maximum(ranked, 1)
    # What a lower score may still reach: the envelope from the right.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    means = np.zeros(len(hits))
    for t, row in enumerate(hits):
        at = np.searchsorted(row / objects, RECALLS, side="left")
        reached = at < len(row)
        means[t] = precision[t, at[reached]].sum() / len(RECALLS)
    return means


def paired_ap_difference(
    ours: Sequence[Sequence[Matches]],
    theirs: Sequence[Sequence[Matches]],
    *,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Difference:
    """Compare APs of the same images and seeds, in points, by a bootstrap over both.

    As ``compare.paired_difference``: each resample draws seeds and images with replacement in
    every test set, the same for both models; test sets count alike. Images drawn without an object
    have no AP and are drawn anew; a test set without one is left out, and NaN is what is left of
    none.

    Args:
        ours: for each test set, one model's matches by seed.
        theirs: the other's, of the same sets and seeds.
        level: 0..1, the share of resamples within the interval.

    Raises:
        InputError: the numbers of seeds, or the sets, differ, or there is nothing to compare.
    """
    if not ours or [len(s) for s in ours] != [len(s) for s in theirs] or not all(ours):
        raise InputError("paired matches must be of the same test sets and seeds")
    for mine, others in zip(ours, theirs, strict=True):
        if any(not np.array_equal(m.objects, mine[0].objects) for m in [*mine, *others]):
            raise InputError("paired matches must be of the same images")
    generator = np.random.default_rng(seed)
    draws, total = np.zeros(resamples), 0.0
    sets = [pair for pair in zip(ours, theirs, strict=True) if pair[0][0].objects.any()]
    if not sets:
        return Difference(float("nan"), float("nan"), float("nan"))
    for mine, others in sets:
        images = mine[0].objects.shape[1]
        pairs = list(zip(mine, others, strict=True))
        total += np.mean([_difference(pair, np.ones(images, int)) for pair in pairs])
        for k in range(resamples):
            rows = np.bincount(generator.integers(len(pairs), size=len(pairs)))
            times = _draw(generator, mine[0].objects)
            differences = [
                row * _difference(pair, times)
                for row, pair in zip(rows, pairs, strict=False)
                if row
            ]
            draws[k] += sum(differences) / len(pairs)
    low, high = percentile_interval(draws / len(sets), level)
    return Difference(float(total / len(sets)), low, high)


def _draw(generator: np.random.Generator, objects: np.ndarray) -> np.ndarray:
    """Draw as many images as there are: how often each was (I,), with an object (K, I) in one."""
    images = objects.shape[1]
    while True:
        times = np.bincount(generator.integers(images, size=images), minlength=images)
        if (objects @ times).any():
            return times


def _difference(pair: tuple[Matches, Matches], times: np.ndarray) -> float:
    mine, other = (average_precision(matches, times) for matches in pair)
    return 100 * (mine - other)
