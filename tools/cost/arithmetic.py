"""The arithmetic of the tables: spread, ratios, growth."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Spread", "growth_exponent", "paired_ratios", "spread"]


class Spread(NamedTuple):
    """The quartiles of some values."""

    low: float
    median: float
    high: float

    @property
    def width(self) -> float:
        """The interquartile range."""
        return self.high - self.low


def spread(values: Sequence[float]) -> Spread:
    """Return the quartiles, interpolated between values; those of one value are that value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def paired_ratios(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Divide each round's value by the baseline's of that round.

    What slows a machine for a while slows both, and cancels. A round that was interrupted before
    both were measured is left out.
    """
    return [value / base for value, base in zip(values, baseline, strict=False)]


def growth_exponent(pixels: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit seconds = a * pixels ** exponent by least squares of the logarithms."""
    x, y = [math.log(p) for p in pixels], [math.log(s) for s in seconds]
    return statistics.linear_regression(x, y).slope
