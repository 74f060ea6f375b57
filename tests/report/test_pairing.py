"""Which images of two runs are taken for the same."""

from pathlib import Path

import pytest

from inspire_d2.errors import InputError
from inspire_d2.report.cases import Case
from inspire_d2.report.comparison import compare
from inspire_d2.report.pairing import pair_cases
from inspire_d2.report.subject import gather
from inspire_d2.report.truth import Item, Thing

from .runs import write_run, write_set


def case(name: str, *boxes: int, id_: int = 1, size: tuple[int, int] = (20, 10)) -> Case:
    """A case whose objects are squares of 4 x 4 pixels, this far from the left."""
    things = [Thing(1, [left, 0, 4, 4], None) for left in boxes]
    pixels = 16 * len(things)
    return Case(Item(id_, name, *size, things=things), len(things), 0, 0, pixels)


def paired(ours: list[Case], theirs: list[Case]) -> list[str]:
    return [a.item.name for a, _ in pair_cases(ours, theirs)]


def test_truth_and_size_tell_images_apart() -> None:
    ours = [case("a", 0), case("b", 0), case("c", 0, id_=3), case("d", 0)]
    theirs = [case("a", 0), case("b", 7), case("c", 0), case("d", 0, size=(20, 11))]
    # Of a set made anew the numbers of the images may differ.
    assert paired(ours, theirs) == ["a", "c"]


def test_counts_alone_go_by_the_image_id() -> None:
    bare = case("b", 0, id_=2)
    bare.item = Item(2, "b", 0, 0)
    assert paired([case("a", 0), case("b", 0, id_=2)], [case("a", 0), bare]) == ["a", "b"]
    assert paired([case("a", 0), case("b", 0, id_=3)], [case("a", 0), bare]) == ["a"]


def test_images_without_objects_follow_the_others() -> None:
    clean, other = case("clean"), case("clean", id_=2)
    assert paired([case("a", 0), clean], [case("a", 0), clean]) == ["a", "clean"]
    assert paired([case("a", 0), clean], [case("a", 0), other]) == ["a"]
    assert paired([case("a", 0), clean], [case("a", 7), clean]) == []
    assert paired([case("a", 0), clean], [clean]) == []
    assert paired([clean], [clean]) == ["clean"]


def test_sets_that_share_names_alone_are_not_compared(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    json_file = write_set(tmp_path / "data", 24, seed=77)
    other = write_run(tmp_path / "run", json_file, f"pairing_{tmp_path.name}")
    subjects = [gather(one) for one in (runs[0], other)]
    page = compare(*subjects)
    assert any("no case in common" in note for note in page.notes) and page.key_table is None
    (figures,) = [one for one in page.sections if one.id == "figures"]
    assert "not scored on the same set" in figures.blocks[0].note
    for one in subjects:
        one.evaluation = {}
    with pytest.raises(InputError, match="nothing to compare"):
        compare(*subjects)
