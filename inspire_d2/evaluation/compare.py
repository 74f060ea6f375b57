"""Comparing two models on the same images and seeds: paired difference and its uncertainty.

Shape shorthand in this module: S seeds, I images of one test set.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inspire_d2.errors import InputError

__all__ = ["Difference", "paired_difference", "percentile_interval"]


class Difference(NamedTuple):
    """A mean difference and the bounds of its interval, in the scores' unit."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired_difference(
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare scores of the same images and seeds, with a percentile bootstrap over both.

    Every resample draws, in each test set, seeds and images with replacement, the same for both
    models; test sets count alike, however large. With S seeds, the spread between seeds comes out
    too small by about sqrt((S - 1) / S), as with any bootstrap.

    Args:
        ours: a float array (S, I) for each test set.
        theirs: of the same shapes, in the same order.
        level: 0..1, the share of resamples within the interval.

    Raises:
        InputError: shapes differ, or there is nothing to compare.
    """
    shapes = [array.shape for array in ours]
    if shapes != [array.shape for array in theirs] or any(len(shape) != 2 for shape in shapes):
        raise InputError("paired scores must be arrays (seeds, images) of the same shapes")
    if not shapes or any(0 in shape for shape in shapes):
        raise InputError("there are no scores to compare")
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for difference in differences:
        seeds, images = difference.shape
        for k in range(resamples):
            rows = difference[generator.integers(seeds, size=seeds)]
            means[k] += rows.mean(axis=0)[generator.integers(images, size=images)].mean()
    means /= len(differences)
    low, high = percentile_interval(means, level)
    return Difference(float(np.mean([d.mean() for d in differences])), low, high)


def percentile_interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """Return the bounds between which a share ``level`` of a bootstrap's draws lies."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
