"""Overlap and surface distances against brute force and against known geometry."""

import itertools
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from inspire_d2.errors import InputError
from inspire_d2.evaluation.dice import (
    crop_to_foreground,
    dice,
    surface_distances,
    volume_diagonal,
)

pytestmark = pytest.mark.skipif(
    find_spec("monai") is None, reason="needs MONAI, of the extra medical"
)

SPACING = (3.0, 0.5, 1.25)
WORST = 1000.0


def box(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
    """A mask of one box, given as (start, stop) along each axis."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*part) for part in ranges)] = True
    return mask


def surface(mask: np.ndarray) -> np.ndarray:
    """Indices of the voxels with a face on the outside, found by looking at each one's faces."""
    padded = np.pad(mask, 1)
    inside = np.ones_like(mask)
    for axis, step in itertools.product(range(3), (-1, 1)):
        inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere(mask & ~inside)


def brute_force(predicted: np.ndarray, true: np.ndarray, spacing) -> tuple[float, float]:
    between = cdist(surface(predicted) * np.array(spacing), surface(true) * np.array(spacing))
    there, back = between.min(axis=1), between.min(axis=0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hd95), float(np.concatenate([there, back]).mean())


def blobs(seed: int, shape=(9, 14, 11)) -> tuple[np.ndarray, np.ndarray]:
    """Two rugged masks that overlap, and touch the array's ends."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    masks = []
    for _ in range(2):
        centre = np.array(shape) * rng.uniform(0.2, 0.7, 3)
        distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0))
        masks.append(distance + rng.normal(0, 0.8, shape) < 4)
    return masks[0], masks[1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING, (0.7, 6.0, 0.4)])
def test_surface_distances_agree_with_brute_force(seed, spacing):
    predicted, true = blobs(seed)
    found = surface_distances(predicted, true, spacing, WORST)
    assert found == pytest.approx(brute_force(predicted, true, spacing), rel=1e-5)
    assert surface_distances(true, predicted, spacing, WORST) == pytest.approx(found)


def test_hd95_takes_the_larger_percentile_and_not_that_of_both_together():
    # A rod, and the same one of which one voxel in 12 lies apart: only one direction sees it.
    true = box((1, 40, 30), (0, 1), (0, 11), (0, 1))
    predicted = true | box((1, 40, 30), (0, 1), (0, 1), (20, 21))
    there = [0.0] * 11 + [20.0]
    expected = np.percentile(there, 95)
    assert expected > np.percentile(there + [0.0] * 11, 95)
    hd95, average = surface_distances(predicted, true, (1, 1, 1), WORST)
    assert hd95 == pytest.approx(expected)
    assert average == pytest.approx(20 / 23)


@pytest.mark.parametrize("axis", range(3))
def test_parallel_planes_are_as_far_apart_as_they_are(axis):
    first, second = np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)
    first[(slice(None),) * axis + (1,)] = True
    second[(slice(None),) * axis + (6,)] = True
    distance = 5 * SPACING[axis]
    assert surface_distances(first, second, SPACING, WORST) == pytest.approx((distance, distance))


@pytest.mark.parametrize("axis", range(3))
def test_cubes_apart_along_one_axis(axis):
    # Facing sides are `gap` apart, all others more; the back side 4 voxels further than the front.
    shape, corner = [20, 20, 20], [(2, 7)] * 3
    moved = list(corner)
    moved[axis] = (12, 17)
    first, second = box(shape, *corner), box(shape, *moved)
    hd95, average = surface_distances(first, second, SPACING, WORST)
    gap = 6 * SPACING[axis]
    assert gap < average < gap + 4 * SPACING[axis]
    assert hd95 == pytest.approx(gap + 4 * SPACING[axis])  # the back side is 25 of 98 voxels


def test_single_voxels_and_full_volumes():
    one, other = box((5, 6, 7), (1, 2), (1, 2), (1, 2)), box((5, 6, 7), (3, 4), (5, 6), (4, 5))
    full = np.ones((5, 6, 7), bool)
    apart = math.hypot(2 * 3.0, 4 * 0.5, 3 * 1.25)
    assert surface_distances(one, other, SPACING, WORST) == pytest.approx((apart, apart))
    assert dice(one, other) == 0
    for mask in (one, full):
        assert dice(mask, mask) == 1
        assert surface_distances(mask, mask, SPACING, WORST) == (0, 0)
    expected = brute_force(one, full, SPACING)
    assert surface_distances(one, full, SPACING, WORST) == pytest.approx(expected)
    assert dice(one, full) == pytest.approx(2 / (1 + 5 * 6 * 7))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("in_predicted", "in_true", "overlap", "distance"),
    [(False, False, 1, 0), (True, False, 0, WORST), (False, True, 0, WORST), (True, True, 1, 0)],
)
def test_empty_masks_have_defined_figures(in_predicted, in_true, overlap, distance):
    some = box((4, 5, 6), (1, 3), (2, 4), (2, 5))
    predicted, true = some & in_predicted, some & in_true
    assert dice(predicted, true) == overlap
    assert surface_distances(predicted, true, SPACING, WORST) == (distance, distance)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy", "ignore:.*is all 0")
def test_monai_alone_returns_nan_and_infinity_for_empty_masks():
    """The reason why those cases are defined here."""
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    some = torch.from_numpy(box((4, 5, 6), (1, 3), (2, 4), (2, 5)))[None, None]
    empty = torch.zeros_like(some)
    options = {"include_background": True, "spacing": SPACING}
    for pair in ((empty, empty), (empty, some), (some, empty)):
        assert not compute_hausdorff_distance(*pair, percentile=95, **options).isfinite()
        assert not compute_average_surface_distance(*pair, symmetric=True, **options).isfinite()


def test_dice_is_counted():
    rng = np.random.default_rng(0)
    for _ in range(5):
        predicted, true = rng.random((2, 3, 8, 9)) < rng.uniform(0.1, 0.9)
        both = single = 0
        for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
            both += p and t
            single += p + t
        assert dice(predicted, true) == pytest.approx(2 * both / single)


@pytest.mark.parametrize("seed", range(3))
def test_cropping_changes_nothing(seed, monkeypatch):
    predicted, true = (np.pad(mask, ((0, 6), (5, 0), (3, 7))) for mask in blobs(seed))
    cropped = crop_to_foreground(predicted, true)
    assert cropped[0].size < predicted.size / 2
    assert [mask.sum() for mask in cropped] == [predicted.sum(), true.sum()]
    found = dice(*cropped), *surface_distances(predicted, true, SPACING, WORST)

    def whole(*masks):
        return masks

    monkeypatch.setattr("inspire_d2.evaluation.dice.crop_to_foreground", whole)
    assert found == (dice(predicted, true), *surface_distances(predicted, true, SPACING, WORST))


def test_crop_keeps_a_margin_of_one_voxel_within_the_array():
    shape = (6, 9, 9)
    first = box(shape, (0, 1), (4, 5), (7, 8))
    second = box(shape, (2, 3), (4, 6), (8, 9))
    for mask, cut in zip((first, second), crop_to_foreground(first, second), strict=True):
        np.testing.assert_array_equal(cut, mask[0:4, 3:7, 6:9])
    empty = np.zeros(shape, bool)
    assert [mask.shape for mask in crop_to_foreground(empty, empty)] == [shape, shape]


def test_masks_that_only_read_or_are_turned_will_do():
    predicted, true = blobs(0)
    expected = surface_distances(predicted, true, SPACING, WORST)
    predicted.setflags(write=False)
    turned = np.ascontiguousarray(true[::-1])[::-1]
    assert surface_distances(predicted, turned, SPACING, WORST) == expected
    assert dice(predicted, turned) == dice(predicted, true)


def test_diagonal():
    assert volume_diagonal((3, 4, 12), (1, 1, 1)) == pytest.approx(13)
    assert volume_diagonal((30, 8, 6), (0.1, 0.5, 2)) == pytest.approx(13)


def test_wrong_input_is_named():
    mask = np.ones((2, 3, 4), bool)
    with pytest.raises(InputError, match=r"is \(2, 3, 4\) .* one \(2, 3, 5\)"):
        dice(mask, np.ones((2, 3, 5), bool))
    with pytest.raises(InputError, match="bool .* uint8"):
        dice(mask.astype(np.uint8), mask)
    with pytest.raises(InputError, match=r"bool .* \(3, 4\)"):
        dice(mask[0], mask[0])
    for spacing in ((1, 1), (1, 0, 1), (1, float("nan"), 1)):
        with pytest.raises(InputError, match="three positive numbers"):
            surface_distances(mask, mask, spacing, WORST)
