"""What datasets/prepare_polyps.py warns of while it does as it was told."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageOps


@pytest.fixture
def warnings_of(
    tool: ModuleType, capsys: pytest.CaptureFixture, tmp_path: Path
) -> Callable[..., list[str]]:
    """Run the tool, with an output of its own, and return its warnings."""

    def run(*arguments: object) -> list[str]:
        capsys.readouterr()
        tool.main([str(argument) for argument in (*arguments, "--output", tmp_path / "out")])
        return [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]

    return run


def test_sequences_of_cvc_clinicdb(
    tmp_path: Path, make_folders: Callable[..., None], warnings_of: Callable[..., list[str]]
) -> None:
    root = tmp_path / "cvc"
    make_folders(root / "Original", root / "Ground Truth", "1234", "{}.tif", "{}.tif")
    arguments = ("--layout", "cvc-clinicdb", "--root", root)
    (said,) = warnings_of(*arguments, "--ratio", 0.5)
    assert "frames of 29 sequences" in said
    assert "--index FILE --split-column sequence" in said
    assert "29 sequences" not in "".join(warnings_of(*arguments, "--all", "train"))
    index = tmp_path / "frames.csv"
    index.write_text("name,sequence\n1,a\n2,a\n3,b\n4,b\n")
    by_sequence = ("--split-column", "sequence", "--val-values", "b")
    assert not warnings_of(*arguments, "--index", index, *by_sequence)
    (said,) = warnings_of(*arguments, "--index", index, "--ratio", 0.25)
    assert "values of sequence" in said


def test_a_json_of_an_earlier_split(
    kvasir: Path, warnings_of: Callable[..., list[str]], tmp_path: Path
) -> None:
    arguments = ("--layout", "kvasir", "--root", kvasir)
    output = tmp_path / "out"
    assert not warnings_of(*arguments, "--ratio", 0.5)
    assert not warnings_of(*arguments, "--ratio", 0.8)  # both are written again
    (output / "train.json").unlink()
    (output / "notes.json").write_text("[1]")
    (output / "other.json").write_text('{"info": {"split": 1}, "images": []}')
    (said,) = warnings_of(*arguments, "--all", "test")
    assert f"warning: {output / 'val.json'}, of an earlier split (ratio), stays" in said
    assert "(2 of test.json)" in said
    (kvasir / "part").mkdir()
    for folder in ("images", "masks"):
        (kvasir / folder).rename(kvasir / "part" / folder)
    assert not warnings_of("--layout", "kvasir", "--root", kvasir / "part", "--all", "test")


def test_an_index_that_does_not_fit(
    kvasir: Path,
    tmp_path: Path,
    refused: Callable[..., str],
    warnings_of: Callable[..., list[str]],
) -> None:
    index = tmp_path / "frames.csv"
    index.write_text("name,sequence\n1,s1\n2,s1\n")
    arguments = ("--layout", "kvasir", "--root", kvasir)
    for split in (("--ratio", 0.5), ("--split-column", "sequence", "--val-values", "s1")):
        said = refused(*arguments, "--index", index, *split, output=tmp_path / "out")
        assert f"the index {index} fits none of the 10 images" in said
    index.rename(kvasir / "index.csv")  # one that only lies there
    (said,) = warnings_of(*arguments, "--ratio", 0.5)
    assert said.endswith("such as '1', should be the files', such as 'a0'; it is not used")
    rows = "".join(f"a{i}.jpg,s\n" for i in range(8))
    (kvasir / "index.csv").write_text(f"name,sequence\n{rows}")
    lacking, leak = warnings_of(*arguments, "--ratio", 0.5)
    assert "lacks 2 images: a8, a9" in lacking
    assert "1 of 1 values of sequence (s)" in leak


def test_masks_whose_background_is_white(
    kvasir: Path, warnings_of: Callable[..., list[str]]
) -> None:
    for file in (kvasir / "masks").iterdir():
        inverted = ImageOps.invert(Image.open(file).convert("L"))
        inverted.save(file)
        assert np.mean(np.asarray(inverted) > 127) > 0.5
    (said,) = warnings_of("--layout", "kvasir", "--root", kvasir, "--all", "test")
    assert "10 of 10 masks are white in more than half of their pixels" in said


def test_masks_in_their_transparency(kvasir: Path, warnings_of: Callable[..., list[str]]) -> None:
    for number, file in enumerate(sorted((kvasir / "masks").iterdir())):
        alpha = Image.open(file).convert("L")
        black = Image.new("L", alpha.size)
        if number < 2:  # the mask is its transparency
            Image.merge("LA", (black, alpha)).save(file)
        elif number == 2:  # black, and nothing else
            Image.merge("LA", (black, black)).save(file)
        else:  # transparent where there is no polyp, as some tools write it
            Image.merge("RGBA", (alpha,) * 4).save(file)
    (said,) = warnings_of("--layout", "kvasir", "--root", kvasir, "--all", "test")
    assert "2 masks are of one colour and differ in their transparency alone" in said
    assert "a0, a1;" in said


def test_copies_in_two_parts(kvasir: Path, warnings_of: Callable[..., list[str]]) -> None:
    for folder in ("images", "masks"):
        for file in sorted((kvasir / folder).iterdir())[:2]:
            (kvasir / folder / f"copy_{file.name}").write_bytes(file.read_bytes())
    (kvasir / "train.txt").write_text("".join(f"a{i}\n" for i in range(10)))
    (kvasir / "val.txt").write_text("copy_a0\n")
    lists = ("--train-list", kvasir / "train.txt", "--val-list", kvasir / "val.txt")
    copied, left_out = warnings_of("--layout", "kvasir", "--root", kvasir, *lists)
    assert "1 images are in more than one part, as copies" in copied
    assert "(a0 = copy_a0)" in copied and "1 images are in neither list" in left_out
