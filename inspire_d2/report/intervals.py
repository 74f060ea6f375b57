"""A figure over images, and how sure it is: a percentile bootstrap over the images."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Interval", "ratio_interval"]

RESAMPLES, LEVEL = 2000, 0.95


class Interval(NamedTuple):
    """A value and its 95 % interval, whose bounds are NaN of one image alone."""

    value: float
    low: float
    high: float

    def bounds(self, show: Callable[[float], str]) -> str:
        """Return the bounds, each as ``show`` has it; "" where there are none."""
        if math.isnan(self.low):
            return ""
        return f"{show(self.low)} to {show(self.high)}"


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 0
) -> Interval | None:
    """Return sum(numerators) / sum(denominators) over images, resampled with replacement.

    Means are such ratios with denominators of 1; polyps found are a ratio of two counts. None where
    the denominators add up to 0. Resamples in which they do are left out. Of one image a bootstrap
    draws nothing but it.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if not bottom.sum():
        return None
    value = float(top.sum() / bottom.sum())
    if len(top) == 1:
        return Interval(value, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(len(top), size=len(top))
        below = bottom[chosen].sum()
        if below:
            ratios.append(top[chosen].sum() / below)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
