"""Prepared MRI sets by name, and what is said where one cannot be used."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspire_d2.data.mri import check_mri_dataset, mri_dataset, mri_item
from inspire_d2.data.mri_layouts import find_cases
from inspire_d2.data.mri_mapper import MriMapper
from inspire_d2.data.mri_volume import load_case
from inspire_d2.data.problems import Problems
from inspire_d2.errors import InputError

from .mri_helpers import prepare, save_brats

NAMES = ("BraTS20_Training_001", "BraTS20_Training_002")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The index of two cases, named brats_train."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for name in NAMES:
        save_brats(tmp_path / "brats", name)
    return prepare(tmp_path / "brats", "train")


def change(index: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(index.read_text())
    edit(content)
    index.write_text(json.dumps(content))


def test_items(index: Path, tmp_path: Path) -> None:
    items = mri_dataset("brats_train")
    assert mri_dataset("mine", str(index)) == items
    assert [item["case"] for item in items] == list(NAMES)
    for item in items:
        depth, channels, height, width = np.load(item["image"]).shape
        assert (item["height"], item["width"], channels) == (height, width, 4)
        assert (item["image_id"], item["file_name"]) == (item["case"], item["image"])
        assert item["labels"] == [1, 2, 4]
        assert item["channels"] == ["t1", "t1ce", "t2", "flair"]
        assert np.load(item["label"]).shape == (depth, height, width)
        assert all(os.path.isabs(item[key]) for key in ("image", "label", "reference"))
        assert os.path.isfile(item["reference"])
    assert check_mri_dataset("brats_train", labelled=True)["labels"] == [1, 2, 4]


def test_a_set_that_is_moved(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brats").rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere/prepared/train.json"
    check_mri_dataset("mine", str(moved))
    assert os.path.isfile(mri_dataset("mine", str(moved))[0]["reference"])
    monkeypatch.chdir(tmp_path)
    assert mri_dataset("mine", "elsewhere/prepared/train.json") == mri_dataset("mine", str(moved))


def test_unknown_or_not_prepared(index: Path) -> None:
    for use in (mri_dataset, check_mri_dataset):
        with pytest.raises(InputError, match="no data set 'brain_train': give its index=FILE"):
            use("brain_train")
        with pytest.raises(InputError, match="no data set 'brats'"):
            use("brats")
        with pytest.raises(InputError, match=r"prepare_mri.py --root .*atlas --layout atlas --val"):
            use("atlas_train")
        with pytest.raises(InputError, match="--layout brats --all test"):
            use("brats_test")
        with pytest.raises(InputError, match="there is no none.json"):
            use("mine", "none.json")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c.update(format="inspire_d2 mri 0"), "not an index of the format"),
        (lambda c: c.pop("format"), "not an index of the format"),
        (lambda c: c.pop("labels"), "has no list 'labels'"),
        (lambda c: c.update(cases=[]), "has no cases"),
        (lambda c: c["cases"][1].pop("crop"), "case 1 of the index .* has no crop"),
        (lambda c: c["cases"][1].update(axis=7), "case 1 .* has a axis that cannot be, 7"),
        (lambda c: c["cases"][0].update(axis=None), "case 0 .* has a axis that cannot be, None"),
        (lambda c: c["cases"][0].update(crop="x"), "has a crop that cannot be, x"),
        (lambda c: c["cases"][0].update(crop=[[0, 4], [0, 4]]), "has a crop that cannot be"),
        (lambda c: c["cases"][0].update(crop=[[0, 99]] * 3), "beyond its shape"),
        (lambda c: c["cases"][0].update(image=5), "has a image that cannot be, 5"),
        (lambda c: c["cases"][0].update(voxels=None), "has a voxels that cannot be, None"),
        (lambda c: c["cases"][0].update(voxels={"1": [3]}), "other than its . slices"),
        (lambda c: c["cases"][0].update(spacing=[0, 1, 1]), "has a spacing that cannot be"),
        (lambda c: c["cases"][0].update(shape=[1]), "has a shape that cannot be"),
        (lambda c: c["cases"][0].update(case="../../x"), r"has a case that cannot be, \.\./"),
        (lambda c: c["cases"][0].update(case=c["cases"][1]["case"]), "the case .*_002 twice"),
        (lambda c: c.update(labels=[0, 1]), "has labels that are not 1..255"),
    ],
)
def test_wrong_indexes(
    index: Path, edit: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    change(index, edit)
    for use in (mri_dataset, check_mri_dataset):
        with pytest.raises(InputError, match=sentence):
            use("brats_train")
    for text in ("[]", "{", ""):
        index.write_text(text)
        with pytest.raises(InputError, match=r"format|not a json file"):
            check_mri_dataset("brats_train")


def test_missing_and_truncated_arrays(index: Path) -> None:
    folder = index.parent / "cases"
    image, label = (folder / f"{NAMES[0]}.{part}.npy" for part in ("image", "label"))
    content = image.read_bytes()
    image.write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"{image} has {len(content) - 1} bytes, not"):
        check_mri_dataset("brats_train")
    image.write_bytes(content[:20])
    with pytest.raises(InputError, match=f"{image} is no array"):
        check_mri_dataset("brats_train")
    with pytest.raises(InputError, match=r"cannot be read .*prepare_mri.py again"):
        MriMapper(is_train=False)(mri_dataset("brats_train")[0])
    np.save(image, np.load(folder / f"{NAMES[1]}.image.npy").astype(np.float32))
    with pytest.raises(InputError, match="is float32 .* not float16"):
        check_mri_dataset("brats_train")
    image.write_bytes(content)
    np.save(label, np.load(label)[1:])
    with pytest.raises(InputError, match=f"{label} is uint8"):
        check_mri_dataset("brats_train")
    label.unlink()
    with pytest.raises(InputError, match=rf"{label} is missing; run .*prepare_mri.py again"):
        check_mri_dataset("brats_train")
    prepare(index.parents[1], "train")  # makes what is lacking
    check_mri_dataset("brats_train")


def test_training_needs_labels(tmp_path: Path) -> None:
    save_brats(tmp_path, "a")["seg"].unlink()
    save_brats(tmp_path, "b")
    index = str(prepare(tmp_path, labelled=False))
    assert mri_dataset("x", index)[0]["label"] is None
    check_mri_dataset("x", index)
    with pytest.raises(InputError, match="cannot be trained on, 1 cases of .* have no label: a"):
        check_mri_dataset("x", index, labelled=True)
    mapped = MriMapper(is_train=False)(mri_dataset("x", index)[0])
    assert "label" not in mapped
    with pytest.raises(InputError, match="the case a has no label"):
        MriMapper(is_train=True)(mri_dataset("x", index)[0])


def test_the_same_item_without_a_prepared_set(index: Path) -> None:
    root = index.parents[1]
    case = find_cases("brats", root, Problems(root))[0]
    loaded = load_case(case)
    entry = {**loaded.entry, "image": loaded.image, "label": loaded.label}
    item = mri_item(entry, [1, 2, 4], list(case.channels))
    stored = mri_dataset("brats_train")[0]
    assert {k: v for k, v in item.items() if k not in ("image", "label", "file_name")} == {
        k: v for k, v in stored.items() if k not in ("image", "label", "file_name", "digest")
    }
    assert item["file_name"] == str(case.images[0])
    ours, theirs = (MriMapper(is_train=False, neighbours=1)(one) for one in (item, stored))
    assert ours["image"].equal(theirs["image"])
    assert ours["label"].equal(theirs["label"])
