"""Each layout on a tiny tree, and what does not match in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inspire_d2.data.layouts import find_pairs
from inspire_d2.data.problems import Problems
from inspire_d2.errors import InputError

Make = Callable[..., None]


def names(layout: str, root: Path, **folders: Path) -> list[str]:
    problems = Problems(root)
    pairs = find_pairs(layout, root, problems, **folders)
    problems.raise_if_any()
    assert all((root / pair.file_name).samefile(pair.image) for pair in pairs)
    return [pair.name for pair in pairs]


def test_kvasir(kvasir: Path) -> None:
    assert names("kvasir", kvasir) == [f"a{i}" for i in range(10)]


@pytest.mark.parametrize("sub", ["", "PNG", "TIF"])
def test_cvc_clinicdb(sub: str, tmp_path: Path, make_folders: Make) -> None:
    folder = tmp_path / sub
    make_folders(folder / "Original", folder / "Ground Truth", "12", "{}.tif", "{}.tif")
    assert names("cvc-clinicdb", tmp_path) == ["1", "2"]


def test_polypgen_official_tree(tmp_path: Path, make_folders: Make) -> None:
    for centre, stems in (("C1", ["1", "2"]), ("C3", ["1", "C3_489_"])):
        folder = tmp_path / f"data_{centre}"
        images, masks = folder / f"images_{centre}", folder / f"masks_{centre}"
        make_folders(images, masks, stems, mask="{}_mask.jpg")
    odd = tmp_path / "data_C3" / "masks_C3" / "C3_489__mask.jpg"
    odd.rename(odd.with_name("C3_489_mask.jpg"))  # as published: one underscore less
    pairs = find_pairs("polypgen", tmp_path, Problems(tmp_path))
    assert [p.name for p in pairs] == ["C1_1", "C1_2", "C3_1", "C3_489_"]
    assert [p.attributes["centre"] for p in pairs] == ["C1", "C1", "C3", "C3"]
    assert pairs[0].file_name == "data_C1/images_C1/1.jpg"


def test_polypgen_flat_tree(tmp_path: Path, make_folders: Make) -> None:
    make_folders(tmp_path / "images", tmp_path / "masks", ["C1_a", "C6_b"])
    assert names("polypgen", tmp_path) == ["C1_a", "C6_b"]


@pytest.mark.parametrize("folders", [("images", "masks"), ("image", "mask")])
def test_pranet(folders: tuple[str, str], tmp_path: Path, make_folders: Make) -> None:
    for part in ("TrainDataset", "TestDataset/Kvasir", "TestDataset/CVC-300"):
        make_folders(tmp_path / part / folders[0], tmp_path / part / folders[1], ["1"], "{}.png")
    both = find_pairs("pranet", tmp_path, Problems(tmp_path))
    assert {p.name: p.part for p in both} == {
        "CVC-300/1": "test_CVC-300",
        "Kvasir/1": "test_Kvasir",
        "TrainDataset/1": "train",
    }
    tests = find_pairs("pranet", tmp_path / "TestDataset", Problems(tmp_path))
    assert [p.part for p in tests] == ["test_CVC-300", "test_Kvasir"]
    train = find_pairs("pranet", tmp_path / "TrainDataset", Problems(tmp_path))
    assert [(p.name, p.part) for p in train] == [("1", "train")]


def test_two_folders(tmp_path: Path, make_folders: Make) -> None:
    images, masks = tmp_path / "x" / "photos", tmp_path / "labels"
    make_folders(images, masks, ["polype é 1", "b"], "{}.JPG", "{}_mask.bmp")
    (images / ".DS_Store").touch()
    (images / "notes.txt").touch()
    (images / "._b.jpg").touch()
    assert names("folders", tmp_path, images=images, masks=masks) == ["b", "polype é 1"]


def test_what_is_not_read_is_told(kvasir: Path, capsys: pytest.CaptureFixture) -> None:
    images, masks = kvasir / "images", kvasir / "masks"
    for name in (".hidden.gif", "Thumbs.db", "b.gif", "notes.txt"):
        (images / name).touch()
    assert len(names("kvasir", kvasir)) == 10
    (images / "more").mkdir()
    (masks / "x.gif").touch()
    capsys.readouterr()
    assert len(names("kvasir", kvasir)) == 10
    first, second = capsys.readouterr().err.splitlines()
    assert f"warning: 3 files or folders of {images} are not read" in first
    assert first.endswith(": b.gif, more/, notes.txt")
    assert "1 files" in second and second.endswith(": x.gif")
    (images / "lost.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(InputError, match=r"links to files that are not there \(1\): images/lost"):
        names("kvasir", kvasir)


def test_names_that_differ_in_unicode_form_match(tmp_path: Path, make_folders: Make) -> None:
    make_folders(tmp_path / "images", tmp_path / "masks", ["\u00e9"])
    (tmp_path / "masks" / "\u00e9.png").rename(tmp_path / "masks" / "e\u0301.png")
    assert names("folders", tmp_path) == ["\u00e9"]


def test_links_to_folders(tmp_path: Path, kvasir: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for folder in ("images", "masks"):
        (linked / folder).symlink_to(kvasir / folder)
    assert len(names("kvasir", linked)) == 10


def test_all_that_does_not_match_is_reported(kvasir: Path) -> None:
    images, masks = kvasir / "images", kvasir / "masks"
    (masks / "a0.png").unlink()
    (images / "a1.jpg").unlink()
    (images / "A2.png").write_bytes((images / "a2.jpg").read_bytes())
    (masks / "a3_mask.png").write_bytes((masks / "a3.png").read_bytes())
    with pytest.raises(InputError) as error:
        names("kvasir", kvasir)
    message = str(error.value)
    assert "images without a mask (1): images/a0.jpg" in message
    assert "masks without an image (1): masks/a1.png" in message
    assert "images of the same name (1): A2 = a2" in message
    assert "images with more than one mask (1): a3.jpg (a3.png, a3_mask.png)" in message


def test_long_lists_are_cut(kvasir: Path) -> None:
    for mask in (kvasir / "masks").iterdir():
        mask.rename(mask.with_name(f"x{mask.name}"))
    (kvasir / "images" / "b.jpg").write_bytes((kvasir / "images" / "a0.jpg").read_bytes())
    with pytest.raises(InputError, match=r"without a mask \(11\): .*a9.jpg and 1 more$"):
        names("kvasir", kvasir)


@pytest.mark.parametrize("layout", ["kvasir", "cvc-clinicdb", "polypgen", "pranet", "folders"])
def test_missing_folders(layout: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="hold"):
        names(layout, tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        names(layout, tmp_path / "nowhere")


def test_options_of_two_folders(kvasir: Path, tmp_path: Path) -> None:
    images, masks = kvasir / "images", kvasir / "masks"
    for layout, root, given, sentence in (
        ("kvasir", kvasir, {"images": images, "masks": masks}, "belong to --layout folders"),
        ("folders", kvasir, {"images": images}, "one of them is missing"),
        ("folders", kvasir, {"images": images, "masks": images}, "the same folder"),
        ("folders", masks, {"images": images, "masks": masks}, "does not lie under"),
        ("folders", kvasir, {"images": images, "masks": tmp_path / "x"}, "--masks .*x is not a"),
        (
            "folders",
            tmp_path / "x",
            {"images": tmp_path / "x/y", "masks": masks},
            "--images .*y is not a",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            names(layout, root, **given)


def test_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="no images"):
        names("kvasir", tmp_path)
