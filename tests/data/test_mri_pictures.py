"""Slices that come as pictures, in LGG's form, and each kind of broken one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inspire_d2.data.mri_layouts import find_cases
from inspire_d2.data.mri_volume import load_case
from inspire_d2.data.problems import Problems
from inspire_d2.errors import InputError

from .mri_helpers import only_case, truncate


def save_lgg(root: Path, numbers: tuple[int, ...] = (3, 12, 7)) -> tuple[np.ndarray, np.ndarray]:
    """Write a patient's slices; return them in the order of their numbers."""
    rng = np.random.default_rng(0)
    (root / "P").mkdir(parents=True)
    pictures = rng.integers(0, 256, (len(numbers), 20, 16, 3), dtype=np.uint8)
    pictures[:, :4] = 0
    masks = (rng.random((len(numbers), 20, 16)) > 0.8).astype(np.uint8)
    masks[:, :2] = 0
    for number, picture, mask in zip(numbers, pictures, masks, strict=True):
        Image.fromarray(picture).save(root / f"P/P_{number}.tif")
        Image.fromarray(mask * 255).save(root / f"P/P_{number}_mask.tif")
    order = np.argsort(numbers)
    return pictures[order], masks[order]


def test_slices_as_pictures(tmp_path: Path) -> None:
    pictures, masks = save_lgg(tmp_path)
    prepared = load_case(only_case("lgg", tmp_path), skull_stripped=False)
    entry = prepared.entry
    assert entry["slices"] == [3, 7, 12]
    assert (entry["shape"], entry["axis"]) == ([20, 16, 3], 2)
    assert (entry["spacing"], entry["affine"]) == ([1, 1, 1], np.eye(4).tolist())
    assert entry["reference"] is None
    top = entry["crop"][0][0]
    assert entry["crop"] == [[top, 20], [0, 16], [0, 3]]
    assert top in (2, 3)
    np.testing.assert_array_equal(prepared.label, masks[:, top:])
    for channel in range(3):
        values = pictures[:, top:, :, channel].astype(float)
        wanted = (values - values.mean()) / values.std()  # those of 0, too: heads with their skulls
        np.testing.assert_allclose(prepared.image[:, channel], wanted, atol=2e-3)


def grey(file: Path) -> None:
    Image.open(file).convert("L").save(file)


def smaller(file: Path) -> None:
    Image.open(file).crop((0, 0, 10, 10)).save(file)


def half_grey(file: Path) -> None:
    Image.fromarray(np.full((20, 16), 128, np.uint8)).save(file)


def deep(file: Path) -> None:
    """Write an uncompressed TIFF of 16 bits per channel, which Pillow itself cannot write."""
    import cv2

    cv2.imwrite(str(file), np.full((20, 16, 3), 40000, np.uint16))


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("P_7.tif", truncate, "files that cannot be read"),
        ("P_7.tif", lambda f: f.write_bytes(b""), "files that cannot be read"),
        ("P_7.tif", grey, "pictures that are not RGB of 8 bits"),
        ("P_7.tif", deep, "pictures that are not RGB of 8 bits"),
        ("P_7.tif", smaller, "slices of another size than the first"),
        ("P_7_mask.tif", half_grey, "masks of other values than 0 and 255"),
        ("P_7_mask.tif", smaller, "slices of another size than the first"),
        ("P_7_mask.tif", lambda f: Image.open(f).convert("RGB").save(f), "pictures that are not L"),
    ],
)
def test_broken_pictures_are_named(
    tmp_path: Path, name: str, change: Callable[[Path], object], sentence: str
) -> None:
    save_lgg(tmp_path)
    case = only_case("lgg", tmp_path)
    change(tmp_path / "P" / name)
    with pytest.raises(InputError) as error:
        load_case(case)
    assert f"{sentence}" in str(error.value)
    assert f"{tmp_path / 'P' / name} (" in str(error.value)


def test_masks_of_0_and_1(tmp_path: Path) -> None:
    _, masks = save_lgg(tmp_path)
    for number, mask in zip((3, 7, 12), masks, strict=True):
        Image.fromarray(mask).save(tmp_path / f"P/P_{number}_mask.tif")
    assert load_case(only_case("lgg", tmp_path)).label.sum() == masks.sum()


def test_real_slices(shared_datasets: Path) -> None:
    root = shared_datasets / "lgg_mri"
    cases = find_cases("lgg", root, Problems(root))
    assert len(cases) == 8
    assert sum(len(case.slices) for case in cases) == 109
    prepared = load_case(cases[0])
    for channel in range(3):
        values = prepared.image[:, channel].astype(np.float64)
        values = values[values != 0]
        assert abs(values.mean()) < 1e-3
        assert abs(values.std() - 1) < 1e-3
