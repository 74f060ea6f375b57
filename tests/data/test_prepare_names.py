"""Files and folders whose names no json or no file system takes."""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

LONG = "x" * 300


@pytest.mark.parametrize("option", ["--root", "--all", "--index", "--output"])
def test_names_that_are_too_long(option: str, kvasir: Path, refused: Callable[..., str]) -> None:
    given = {"--root": kvasir, "--all": "test", "--output": kvasir / "out"}
    given[option] = LONG if option == "--all" else kvasir / LONG
    output = given.pop("--output")
    arguments = [word for pair in given.items() for word in pair]
    assert LONG in refused("--layout", "kvasir", *arguments, output=Path(kvasir / "none", output))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("split", [("--ratio", 0.5), ("--all", "test")])
def test_an_image_whose_name_is_not_utf8(
    split: tuple, jobs: int, kvasir: Path, refused: Callable[..., str]
) -> None:
    for folder, suffix in (("images", b".jpg"), ("masks", b".png")):
        file = os.fsencode(kvasir / folder) + b"/pol\xff" + suffix
        os.rename(kvasir / folder / f"a0{os.fsdecode(suffix)}", file)
    said = refused(
        "--layout", "kvasir", "--root", kvasir, *split, "--jobs", jobs, output=kvasir / "out"
    )
    assert r"names that are not UTF-8 (2): images/pol\udcff.jpg, masks/pol\udcff.png" in said


def test_a_root_whose_name_is_not_utf8(
    kvasir: Path, tool: ModuleType, refused: Callable[..., str], tmp_path: Path
) -> None:
    root = Path(os.fsdecode(os.fsencode(kvasir) + b"\xff"))
    kvasir.rename(root)
    arguments = ("--layout", "kvasir", "--root", root, "--all", "test")
    said = refused(*arguments, output=tmp_path / "out")
    assert r"kvasir\udcff is not UTF-8, and cannot be named in a json" in said
    tool.main([str(word) for word in (*arguments, "--output", root / "annotations")])
    assert (root / "annotations" / "test.json").is_file()
