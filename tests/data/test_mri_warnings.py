"""What is told of sets whose volumes are not alike, or perhaps not what they are taken for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inspire_d2.data.mri_index import MRI_FORMAT

from .mri_helpers import affine_of, brain, load, prepare, save, save_brats, tumour

Warnings = Callable[[], str]


@pytest.fixture
def warnings(capsys: pytest.CaptureFixture) -> Warnings:
    return lambda: "\n".join(
        line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")
    )


def test_pixels_of_other_sizes(tmp_path: Path, warnings: Warnings) -> None:
    save_brats(tmp_path, "BraTS20_Training_001", affine=affine_of("LPS", (1, 1, 1)))
    save_brats(tmp_path, "BraTS20_Training_002", affine=affine_of("LPS", (1.05, 1.05, 5)))
    prepare(tmp_path)
    assert warnings() == ""  # slices further apart are no pixels
    save_brats(tmp_path, "BraTS20_Training_003", affine=affine_of("LPS", (0.5, 0.5, 1)))
    prepare(tmp_path)
    told = warnings()
    assert "go from 0.5 mm (BraTS20_Training_003) to 1.05 mm (BraTS20_Training_002)" in told
    assert "nothing is resampled" in told


def test_heads_taken_for_brains(tmp_path: Path, warnings: Warnings) -> None:
    head = np.random.default_rng(0).integers(1, 900, (14, 11, 9)).astype(np.int16)
    for name, data in (("brain", brain(0)), ("head", head)):
        save(tmp_path / f"images/{name}.nii.gz", data)
        save(tmp_path / f"labels/{name}.nii.gz", tumour((1,)))
    file = prepare(tmp_path, layout="folders")
    assert "1 cases (head) are taken to be skull-stripped" in warnings()
    assert load(file)["format"] == MRI_FORMAT
    for skull_stripped in (True, False):  # the user knows
        prepare(tmp_path, layout="folders", skull_stripped=skull_stripped)
        assert warnings() == ""
        cases = load(file)["cases"]
        assert [entry["skull_stripped"] for entry in cases] == [skull_stripped] * 2


def test_files_that_do_not_say_how_they_lie(tmp_path: Path, warnings: Warnings) -> None:
    for name, codes in (("a", (0, 0)), ("b", (1, 1))):
        save(tmp_path / f"images/{name}.nii.gz", brain(0), codes=codes)
        save(tmp_path / f"labels/{name}.nii.gz", tumour((1,)), codes=codes)
    prepare(tmp_path, layout="folders")
    told = warnings()
    assert "1 cases (a) do not say how they lie" in told
    assert "turned or mirrored" not in told
