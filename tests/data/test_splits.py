"""Split rules: what they choose, what they refuse, when they warn."""

from pathlib import Path

import pytest

from inspire_d2.data.attributes import read_index
from inspire_d2.data.layouts import Pair
from inspire_d2.data.problems import Problems
from inspire_d2.data.splits import (
    AllSplit,
    ColumnSplit,
    ListSplit,
    OwnSplit,
    RatioSplit,
    Split,
)
from inspire_d2.errors import InputError


def make(count: int, **attributes: str) -> list[Pair]:
    names = [f"n{i:03d}" for i in range(count)]
    return [Pair(n, Path(f"{n}.jpg"), Path(), f"images/{n}.jpg", "", attributes) for n in names]


def names(split: Split, pairs: list[Pair]) -> dict[str, list[str]]:
    problems = Problems(Path())
    parts = split.divide(pairs, problems)
    problems.raise_if_any()
    return {part: [pair.name for pair in members] for part, members in parts.items()}


def test_ratio_depends_on_seed_and_names_only() -> None:
    pairs = make(100)
    parts = names(RatioSplit(0.9, 0), pairs)
    assert (len(parts["train"]), len(parts["val"])) == (90, 10)
    assert sorted(parts["train"] + parts["val"]) == [pair.name for pair in pairs]
    assert names(RatioSplit(0.9, 0), pairs[::-1])["val"] == parts["val"][::-1]
    assert names(RatioSplit(0.9, 1), pairs)["val"] != parts["val"]


@pytest.mark.parametrize("ratio", [0.0, 1.0, -1.0, float("nan")])
def test_ratio_outside_its_range(ratio: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        RatioSplit(ratio)


def test_ratio_that_leaves_nothing() -> None:
    with pytest.raises(InputError, match=r"without an image \(1\): val"):
        names(RatioSplit(0.9), make(2))


def lists(folder: Path, train: str, val: str) -> ListSplit:
    (folder / "train.txt").write_text(train, encoding="utf-8-sig")
    (folder / "val.txt").write_text(val)
    return ListSplit(folder / "train.txt", folder / "val.txt")


def test_lists(tmp_path: Path) -> None:
    split = lists(tmp_path, "n000\n\nn001.jpg\r\n", " images/n002.jpg \n")
    assert names(split, make(4)) == {"train": ["n000", "n001"], "val": ["n002"]}


def test_lists_in_another_unicode_form(tmp_path: Path) -> None:
    pairs = [Pair(n, Path(f"{n}.jpg"), Path(), f"{n}.jpg") for n in ("\u00e9", "e\u0301tude")]
    parts = names(lists(tmp_path, "e\u0301.jpg\n", "\u00e9tude\n"), pairs)
    assert parts == {"train": ["\u00e9"], "val": ["e\u0301tude"]}


def test_wrong_lists(tmp_path: Path) -> None:
    split = lists(tmp_path, "n000\nn000.jpg\nnobody\nn001\n", "n001\n")
    with pytest.raises(InputError) as error:
        names(split, make(3))
    for sentence in (
        "names in a list that no image has (1): nobody (train.txt)",
        "names twice in a list (1): n000.jpg (train.txt)",
        "names in both lists (1): n001",
    ):
        assert sentence in str(error.value)
    with pytest.raises(InputError, match=r"without an image \(1\): val"):
        names(lists(tmp_path, "n000", ""), make(1))
    with pytest.raises(InputError, match="cannot be read"):
        names(ListSplit(tmp_path / "none", tmp_path / "none"), make(1))
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        names(ListSplit(tmp_path / "train.txt", tmp_path / "val.txt"), make(1))


def test_a_name_that_fits_two_images(tmp_path: Path) -> None:
    pairs = [Pair(f"{s}/1", Path(f"{s}/1.png"), Path(), f"{s}/1.png") for s in "ab"]
    with pytest.raises(InputError, match=r"fit several images \(1\): 1 \(train.txt\)"):
        names(lists(tmp_path, "1\n", "b/1\n"), pairs)


def test_column(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("name,centre\nn000,C1\nn001,C2\nn002,C6\nextra,C9\n")
    pairs, _ = read_index(make(3), tmp_path / "index.csv")
    assert names(ColumnSplit("centre", ("C2", "C6")), pairs) == {
        "train": ["n000"],
        "val": ["n001", "n002"],
    }
    with pytest.raises(InputError, match=r"unknown columns \(1\): hospital \(known: centre\)"):
        names(ColumnSplit("hospital", ("C6",)), pairs)
    with pytest.raises(InputError, match=r"unknown values of centre \(1\): C7 \(known: C1, C2, C6"):
        names(ColumnSplit("centre", ("C7",)), pairs)
    with pytest.raises(InputError, match=r"not in the index \(1\): n003"):
        names(ColumnSplit("centre", ("C6",)), read_index(make(4), tmp_path / "index.csv")[0])
    with pytest.raises(InputError, match=r"without an image \(1\): train"):
        names(ColumnSplit("centre", ("C1", "C2", "C6")), pairs)


def test_a_column_with_a_blank_cell(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("name,centre\nn000,C1\nn001, \nn002\nn003,C6\n")
    pairs, _ = read_index(make(4), tmp_path / "index.csv")
    for value in ("C6", ""):
        with pytest.raises(InputError, match=r"without a value of centre \(2\): n001, n002"):
            names(ColumnSplit("centre", (value,)), pairs)


def test_own_and_all() -> None:
    with pytest.raises(InputError, match="no.* a split of its own|not published"):
        names(OwnSplit(), make(2))
    assert names(AllSplit("test"), make(2)) == {"test": ["n000", "n001"]}
    for name in ("a/b", "", ".hidden", ".."):
        with pytest.raises(InputError, match="no file name"):
            AllSplit(name)
