"""Run lengths that add up are those of pycocotools; others are refused before it decodes them."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from inspire_d2.data.rle import runs_add_up


def compressed(mask: np.ndarray) -> str:
    return mask_util.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def test_random_masks_add_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 300, 2)
        cells = rng.random((-(-height // 7), -(-width // 7))) < rng.random()
        coarse = np.kron(cells, np.ones((7, 7)))[:height, :width]
        for mask in (coarse, rng.random((height, width)) < 0.5, np.ones((height, width))):
            counts = compressed(mask)
            assert runs_add_up(counts, height * width)
            assert not runs_add_up(counts, height * width + 1)
            assert not runs_add_up(counts[:-1], height * width)


def test_large_masks_add_up() -> None:
    mask = np.zeros((3000, 4000))
    mask[100:2900, 50:3900] = 1
    assert runs_add_up(compressed(mask), mask.size)


@pytest.mark.parametrize(
    "counts",
    ["", "00", "P", "PPPPPP`0", "PP0n1", "o" * 500, [5, 5], [-5, 105], [100, True], [50.0, 50]],
)
def test_what_does_not_add_up(counts: str | list) -> None:
    assert not runs_add_up(counts, 100)


def test_a_negative_run_is_none() -> None:
    # 110 and -10 are 100.
    assert mask_util.frPyObjects({"size": [10, 10], "counts": [100]}, 10, 10)["counts"] == b"T3"
    assert runs_add_up("T3", 100)
    assert not runs_add_up("^3FN", 98) and not runs_add_up("^3F", 100)
