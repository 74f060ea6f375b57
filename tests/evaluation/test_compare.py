"""Paired differences and their bootstrap intervals."""

import numpy as np
import pytest
from scipy import stats

from inspire_d2.errors import InputError
from inspire_d2.evaluation.compare import Difference, paired_difference


def test_mean_counts_test_sets_alike() -> None:
    ours = [np.full((2, 3), 5.0), np.full((2, 30), 1.0)]
    theirs = [np.full((2, 3), 1.0), np.full((2, 30), 3.0)]
    difference = paired_difference(ours, theirs, resamples=10)
    assert difference == Difference(1.0, 1.0, 1.0)
    assert difference.is_clear


def test_interval_of_images_is_the_normal_one() -> None:
    values = np.random.default_rng(3).normal(1.0, 2.0, size=(1, 400))
    difference = paired_difference([values], [np.zeros_like(values)], resamples=4000)
    error = stats.sem(values[0])
    low, high = stats.norm.interval(0.95, values.mean(), error)
    assert difference.low == pytest.approx(low, abs=0.1 * error)
    assert difference.high == pytest.approx(high, abs=0.1 * error)


def test_interval_counts_what_images_share_within_a_seed() -> None:
    generator = np.random.default_rng(5)
    seeds = generator.normal(0, 1, size=(12, 1))
    values = seeds + generator.normal(0, 0.01, size=(12, 200))
    difference = paired_difference([values], [np.zeros_like(values)], resamples=4000)
    expected = 2 * 1.96 * seeds.std() / np.sqrt(12)
    assert difference.high - difference.low == pytest.approx(expected, rel=0.1)


def test_what_both_share_does_not_widen_the_interval() -> None:
    theirs = np.random.default_rng(7).normal(0, 100, size=(3, 50))
    difference = paired_difference([theirs + 0.5], [theirs])
    assert difference.mean == pytest.approx(0.5)
    assert difference.high - difference.low < 1e-9


def test_is_clear_of_zero() -> None:
    assert Difference(1, 0.1, 2).is_clear
    assert Difference(-1, -2, -0.1).is_clear
    assert not Difference(1, -0.1, 2).is_clear


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([np.zeros((2, 3))], [np.zeros((2, 4))]),
        ([np.zeros((2, 3))], []),
        ([np.zeros(3)], [np.zeros(3)]),
        ([], []),
        ([np.zeros((2, 0))], [np.zeros((2, 0))]),
    ],
)
def test_wrong_shapes_are_refused(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    with pytest.raises(InputError):
        paired_difference(ours, theirs)
