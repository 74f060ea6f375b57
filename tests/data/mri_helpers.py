"""Small MRI volumes of any orientation, written as each data set has them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from inspire_d2.data import mri_prepare
from inspire_d2.data.mri_layouts import Case, find_cases
from inspire_d2.data.mri_splits import AllPatients
from inspire_d2.data.problems import Problems

SHAPE = (14, 11, 9)
CHANNELS = ("t1", "t1ce", "t2", "flair")


def affine_of(axes: str, spacing: Sequence[float] = (1, 1, 1), turn: float = 0.0) -> np.ndarray:
    """Return an affine whose array axes point to "LPS", "SRA" ..., turned about the head's axis."""
    affine = np.eye(4)
    for column, letter in enumerate(axes):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1),
                     "I": (2, -1)}[letter]  # fmt: skip
        affine[:3, column] = 0
        affine[row, column] = sign * spacing[column]
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = turned @ affine
    affine[:3, 3] = (-31.5, 12.25, 7.0)
    return affine


ORIENTATIONS = {
    "RAS": affine_of("RAS"),
    "LPS": affine_of("LPS", (0.9375, 0.9375, 5.0)),
    "permuted": affine_of("SLA", (2.0, 0.5, 1.2)),
    "oblique": affine_of("PIR", (1.1, 3.0, 0.7), turn=0.3),
}


def brain(seed: int, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Return int16 values of 100 to 900 within a box, 0 around it."""
    rng = np.random.default_rng(seed)
    data = np.zeros(shape, np.int16)
    inner = tuple(slice(2 + i, size - 1) for i, size in enumerate(shape[:3]))
    data[inner] = rng.integers(100, 900, data[inner].shape)
    return data


def tumour(values: Sequence[int] = (1, 2, 4), shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Return a label map, uint8, with a few voxels of each value."""
    label = np.zeros(shape, np.uint8)
    for number, value in enumerate(values):
        label[5 + number : 8 + number, 4 + number, 5 : 7 + number] = value
    return label


def save(
    path: Path, data: np.ndarray, affine: np.ndarray | None = None, codes: tuple[int, int] = (1, 1)
) -> Path:
    """Write a NIfTI file with the codes of its qform and sform."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, None)
    image.set_qform(ORIENTATIONS["RAS"] if affine is None else affine, codes[0])
    image.set_sform(ORIENTATIONS["RAS"] if affine is None else affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def save_brats(
    root: Path,
    name: str = "BraTS20_Training_001",
    values: Sequence[int] = (1, 2, 4),
    affine: np.ndarray | None = None,
    file: str = "{name}/{name}_{part}.nii.gz",
    shape: Sequence[int] = SHAPE,
) -> dict[str, Path]:
    """Write a case of BraTS; return its files by channel, and "seg"."""
    seed = sum(map(ord, name))
    contents = {part: brain(seed + number, shape) for number, part in enumerate(CHANNELS)}
    contents["seg"] = tumour(values, shape)
    return {
        part: save(root / file.format(name=name, part=part), data, affine)
        for part, data in contents.items()
    }


def prepare(root: Path, name: str = "all", layout: str = "brats", **options: Any) -> Path:
    """Prepare all that is in ``root`` as one index; return its file."""
    mri_prepare.prepare_mri(layout, root, AllPatients(name), root / "prepared", **options)
    return root / "prepared" / f"{name}.json"


def problems_of(run: Callable[[], object]) -> str:
    """Return what an InputError of a run says."""
    with pytest.raises(ValueError) as error:
        run()
    return str(error.value)


def load(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def only_case(layout: str, root: Path) -> Case:
    (case,) = find_cases(layout, root, Problems(root))
    return case


def expected(data: np.ndarray) -> np.ndarray:
    """Return z-scores over voxels that are not zero, in double precision."""
    mask = data != 0
    return np.where(mask, (data - data[mask].mean()) / data[mask].std(), 0)


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
