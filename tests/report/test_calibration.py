"""Calibration and intervals against scikit-learn, SciPy and hand-made cases."""

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve

from inspire_d2.report.calibration import BINS, Calibration
from inspire_d2.report.intervals import ratio_interval


def test_bins_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    scores = generator.beta(0.6, 1.2, 5000)
    right = generator.random(5000) < scores**1.5
    calibration = Calibration("detections")
    for part in np.array_split(np.arange(5000), 7):
        calibration.add(scores[part], right[part])
    shares, means = calibration_curve(right, scores, n_bins=BINS, strategy="uniform")
    assert calibration.total == 5000
    assert calibration.shares_right == pytest.approx(shares)
    assert calibration.mean_scores == pytest.approx(means)
    counts, _ = np.histogram(scores, bins=BINS, range=(0, 1))
    assert calibration.error == pytest.approx(np.sum(counts * abs(shares - means)) / 5000)


def test_error_by_hand() -> None:
    calibration = Calibration("detections")
    # 0.9 to 1: mean 0.95, half right; 0.2 to 0.3: mean 0.25, none right
    calibration.add([0.9, 1.0, 0.25, 0.25], [True, False, False, False])
    assert calibration.error == pytest.approx((2 * 0.45 + 2 * 0.25) / 4)
    assert np.isnan(calibration.shares_right[5])
    assert np.isnan(Calibration("detections").error)


def test_interval_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(1).beta(3, 1, 150)
    interval = ratio_interval(values, np.ones(150))
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9999, rng=2)
    assert interval.value == pytest.approx(values.mean())
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert interval.low == pytest.approx(theirs.confidence_interval.low, abs=0.1 * width)
    assert interval.high == pytest.approx(theirs.confidence_interval.high, abs=0.1 * width)


def test_interval_of_a_ratio() -> None:
    found, true = [1, 0, 3, 2], [1, 1, 4, 2]
    interval = ratio_interval(found, true)
    assert interval.value == 6 / 8
    assert 0 <= interval.low < 6 / 8 < interval.high <= 1
    assert ratio_interval([0, 0], [0, 0]) is None
    assert ratio_interval([2, 2], [2, 2]) == (1, 1, 1)


def test_one_image_has_no_interval() -> None:
    interval = ratio_interval([1], [2])
    assert interval.value == 0.5 and interval.bounds(str) == ""
    assert ratio_interval([1, 1], [2, 2]).bounds(str) == "0.5 to 0.5"
