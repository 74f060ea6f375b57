"""Cases and folders of MRI whose names no json takes."""

import os
from collections.abc import Callable
from pathlib import Path


def renamed(path: Path) -> Path:
    """Add to a folder's name a byte that is not UTF-8."""
    return path.rename(os.fsdecode(os.fsencode(path) + b"\xff"))


def test_a_case_whose_name_is_not_utf8(brats: Path, mri_refused: Callable[..., str]) -> None:
    folder = renamed(min(path for path in brats.iterdir() if path.is_dir()))
    said = mri_refused("--layout", "brats", "--root", brats, "--val-ratio", 0.5)
    assert rf"names that are not UTF-8 (1): {folder.name[:-1]}\udcff" in said


def test_a_root_whose_name_is_not_utf8(
    brats: Path, prepare_mri: Callable[..., None], mri_refused: Callable[..., str], tmp_path: Path
) -> None:
    root = renamed(brats)
    arguments = ("--layout", "brats", "--root", root, "--all", "x")
    said = mri_refused(*arguments, "--output", tmp_path / "out")
    assert rf"{brats.name}\udcff is not UTF-8, and cannot be named in a json" in said
    prepare_mri(*arguments)
    assert (root / "prepared" / "x.json").is_file()
