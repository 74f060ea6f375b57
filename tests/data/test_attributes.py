"""Indexes: what they say of which image, what is refused, and leaks that they show."""

from pathlib import Path

import pytest

from inspire_d2.data.attributes import leak_warnings, read_index
from inspire_d2.data.layouts import Pair
from inspire_d2.data.problems import Problems
from inspire_d2.data.splits import ColumnSplit
from inspire_d2.errors import InputError


def make(count: int, **attributes: str) -> list[Pair]:
    names = [f"n{i:03d}" for i in range(count)]
    return [Pair(n, Path(f"{n}.jpg"), Path(), f"images/{n}.jpg", "", attributes) for n in names]


@pytest.mark.parametrize("name", ["n001", "n001.jpg", "images/n001.jpg", " n001 "])
def test_an_image_goes_by_several_names(name: str, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(f"centre,name\nC1,{name}\nC2,other\n")
    pairs, lacking = read_index(make(3), tmp_path / "index.csv")
    assert [pair.attributes for pair in pairs] == [{}, {"centre": "C1"}, {}]
    assert lacking == ["n000", "n002"]


def test_unicode_forms_are_one(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("name,centre\ne\u0301,C1\n", encoding="utf-8")
    (pair,), _ = read_index(
        [Pair("\u00e9", Path("\u00e9.jpg"), Path(), "\u00e9.jpg")], tmp_path / "index.csv"
    )
    assert pair.attributes == {"centre": "C1"}


def test_a_name_of_two_images(tmp_path: Path) -> None:
    pairs = [Pair(f"{s}/1", Path(f"{s}/1.png"), Path(), f"{s}/1.png") for s in "ab"]
    (tmp_path / "index.csv").write_text("name,centre\n1,C1\nb/1,C2\n")
    with pytest.raises(InputError, match="has 1 names that fit several images: 1; give them"):
        read_index(pairs, tmp_path / "index.csv")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,centre\n", "no column 'name'"),
        ("", "no column 'name'"),
        ("name,centre\na,1\na,2\n", "names 1 images twice: a"),
        ("name,centre\nn000,1\nn000.jpg,2\n", r"names 1 images twice: n000\.jpg"),
        ("name,centre\n1,C1\n", "fits none of the 2 images: its names, such as '1', .*'n000'"),
        ("name,centre\n", "fits none of the 2 images: its names, of which it has none"),
        (f"name,centre\nn000,{'x' * 200_000}\n", "no table of csv: line 2: field larger than"),
    ],
)
def test_wrong_index(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_index(make(2), tmp_path / "index.csv")


def test_columns_go_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("Name, Patient ,Unit\nn000,P,a\nn001,P,b\n")
    pairs, _ = read_index(make(2), tmp_path / "index.csv")
    assert [pair.attributes for pair in pairs] == [{"patient": "P", "Unit": u} for u in "ab"]
    (sentence,) = leak_warnings({"train": pairs[:1], "val": pairs[1:]})
    assert "1 of 1 values of patient (P)" in sentence
    parts = ColumnSplit("Unit", ("b",)).divide(pairs, Problems(tmp_path))
    assert [pair.name for pair in parts["val"]] == ["n001"]
    problems = Problems(tmp_path)
    ColumnSplit("Patient", ("Q",)).divide(pairs, problems)  # which is patient here
    with pytest.raises(InputError, match=r"unknown values of patient \(1\): Q \(known: P\)"):
        problems.raise_if_any()
    # Two columns of one name stay apart.
    (tmp_path / "index.csv").write_text("name,patient,Patient\nn000,P,old\nn001,Q,young\n")
    pairs, _ = read_index(make(2), tmp_path / "index.csv")
    assert pairs[0].attributes == {"patient": "P", "Patient": "old"}
    parts = ColumnSplit("Patient", ("old",)).divide(pairs, Problems(tmp_path))
    assert [pair.name for pair in parts["val"]] == ["n000"]


def test_ragged_index(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("name,centre,patient\nn000,C1\nn001,C2,p,too many\n")
    (first, second), _ = read_index(make(2), tmp_path / "index.csv")
    assert first.attributes == {"centre": "C1", "patient": ""}
    assert second.attributes == {"centre": "C2", "patient": "p"}


def test_leaks_are_told_with_their_count() -> None:
    one, two = make(20, centre="C1", patient=""), make(20, centre="C2")
    (sentence,) = leak_warnings({"train": one[:10] + two, "val": one[10:]})
    assert "1 of 2 values of centre (C1)" in sentence
    assert leak_warnings({"train": one, "val": two}) == []
