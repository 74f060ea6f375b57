"""Lesions counted by hand."""

import numpy as np
import pytest

from inspire_d2.errors import InputError
from inspire_d2.evaluation.lesions import LesionCounts, count_lesions

SHAPE = (5, 9, 9)


def voxels(*places: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for place in places:
        mask[place] = True
    return mask


def row(*columns: int) -> np.ndarray:
    """Voxels of one row in the middle."""
    return voxels(*((2, 4, column) for column in columns))


EMPTY = voxels()


@pytest.mark.parametrize(
    ("predicted", "true", "counts", "figures"),
    [
        pytest.param(EMPTY, EMPTY, (0, 0, 0, 0), (1, 1, 1), id="both empty"),
        pytest.param(EMPTY, row(1, 3), (2, 0, 0, 0), (0, 0, 0), id="nothing predicted"),
        pytest.param(row(1, 3), EMPTY, (0, 0, 2, 0), (0, 0, 0), id="nothing there"),
        pytest.param(row(1), row(1), (1, 1, 1, 1), (1, 1, 1), id="one voxel"),
        pytest.param(~EMPTY, ~EMPTY, (1, 1, 1, 1), (1, 1, 1), id="full"),
        pytest.param(row(1), row(2), (1, 0, 1, 0), (0, 0, 0), id="side by side is no hit"),
        pytest.param(row(0, 1), row(1, 2), (1, 1, 1, 1), (1, 1, 1), id="one voxel in common"),
        # 2 lesions, 1 found, 1 prediction beside: P 1/2, R 1/2, F1 2 / (2 + 1 + 1).
        pytest.param(row(1, 6), row(1, 3), (2, 1, 2, 1), (1 / 2, 1 / 2, 1 / 2), id="half"),
        pytest.param(
            row(0, 1, 2), row(0, 2), (2, 2, 1, 1), (1, 1, 1), id="one prediction over two lesions"
        ),
        # 1 lesion found in two parts, 1 beside: P 2/3, R 1, F1 2 / (2 + 1).
        pytest.param(
            row(0, 2, 6), row(0, 1, 2), (1, 1, 3, 2), (2 / 3, 1, 2 / 3), id="two parts of one"
        ),
        # 2 of 3 lesions found by one, 1 beside: P 1/2, R 2/3, F1 4 / (4 + 1 + 1).
        pytest.param(
            row(0, 1, 2, 4), row(0, 2, 8), (3, 2, 2, 1), (1 / 2, 2 / 3, 2 / 3), id="mixed"
        ),
    ],
)
def test_lesions_by_hand(predicted, true, counts, figures):
    found = count_lesions(predicted, true)
    assert found == LesionCounts(*counts)
    assert (found.precision, found.recall, found.f1) == pytest.approx(figures)


@pytest.mark.parametrize(
    "step", [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, -1, 1), (1, -1, -1), (1, 0, -1)]
)
def test_lesions_that_touch_at_a_face_an_edge_or_a_corner_are_one(step):
    neighbours = voxels((2, 4, 4), tuple(np.add((2, 4, 4), step)))
    assert count_lesions(EMPTY, neighbours).true == 1
    apart = voxels((2, 4, 4), tuple(np.add((2, 4, 4), 2 * np.array(step))))
    assert count_lesions(apart, EMPTY).predicted == 2


def test_array_ends_do_not_meet():
    assert count_lesions(EMPTY, voxels((0, 0, 0), (4, 8, 8), (0, 0, 8), (4, 0, 0))).true == 4


def test_agrees_with_a_search_from_voxel_to_voxel():
    """Components by flood fill, and each one's hits, on random specks."""
    rng = np.random.default_rng(0)
    for density in (0.02, 0.05, 0.1):
        predicted, true = rng.random((2, *SHAPE)) < density
        found = count_lesions(predicted, true)
        lesions, guesses = flood(true), flood(predicted)
        assert found.true == len(lesions) and found.predicted == len(guesses)
        assert found.found == sum(any(predicted[v] for v in lesion) for lesion in lesions)
        assert found.right == sum(any(true[v] for v in guess) for guess in guesses)


def flood(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    left = {tuple(int(n) for n in place) for place in np.argwhere(mask)}
    components = []
    while left:
        edge = {left.pop()}
        component = set(edge)
        while edge:
            edge = {v for v in left if any(max(np.abs(np.subtract(v, e))) == 1 for e in edge)}
            left -= edge
            component |= edge
        components.append(component)
    return components


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(5, 9, 9\)"):
        count_lesions(EMPTY, EMPTY[:4])
