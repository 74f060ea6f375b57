"""A study on data of one's own: which splits it takes, and that it keeps to them."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspire_d2.engine.config import load_config
from inspire_d2.errors import InputError
from tools.study import check, parse, study
from tools.study_run import Run
from tools.study_splits import by_name, take_own
from tools.study_variants import VARIANTS


def write_split(folder: Path, train: range = range(4), val: range = range(4, 6)) -> Path:
    """A split of images with one polyp each, as datasets/prepare_polyps.py leaves it."""
    images = folder.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    for name, numbers in (("train", train), ("val", val)):
        for number in numbers:
            cv2.imwrite(str(images / f"{number}.png"), np.zeros((32, 48, 3), np.uint8))
        annotation = {"category_id": 1, "bbox": [2, 3, 8, 6], "area": 48, "iscrowd": 0}
        annotation["segmentation"] = [[2, 3, 10, 3, 10, 9, 2, 9]]
        content = {
            "info": {"image_root": "../images"},
            "images": [
                {"id": n, "file_name": f"{n}.png", "height": 32, "width": 48} for n in numbers
            ],
            "annotations": [{"id": n + 1, "image_id": n} | annotation for n in numbers],
            "categories": [{"id": 1, "name": "polyp"}],
        }
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def change(json_file: Path, key: str, value: Any) -> None:
    json_file.write_text(json.dumps(json.loads(json_file.read_text()) | {key: value}))


def test_a_split_is_named_by_its_folder(tmp_path: Path) -> None:
    folders = [tmp_path / f for f in ("my/annotations", "a/fold 1", "a/fold2", "fold+3", "b/fold2")]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("train", "val"):
            (folder / f"{name}.json").touch()
    named = by_name([*folders[:3], tmp_path / "a/../fold+3"])
    assert named == dict(zip(("my", "fold_1", "fold2", "fold_3"), folders[:4], strict=True))
    with pytest.raises(InputError, match="names fold2 twice"):
        by_name(folders)
    (folders[1] / "val.json").unlink()
    with pytest.raises(
        InputError, match=r"fold 1/val\.json does not exist: --splits takes folders"
    ):
        by_name(folders)


def test_images_are_found_from_the_copy(tmp_path: Path) -> None:
    source = write_split(tmp_path / "my/annotations")
    take_own(source, tmp_path / "study/data/my")
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        content = json.loads((tmp_path / f"study/data/my/{split}.json").read_text())
        assert content["info"]["image_root"] == str(tmp_path / "my/images")
        assert [image["id"] for image in content["images"]] == list(numbers)
    take_own(source, tmp_path / "study/data/my")  # the same again


def test_another_split_is_not_mixed_in(tmp_path: Path) -> None:
    source, copy = write_split(tmp_path / "my/annotations"), tmp_path / "study/data/my"
    take_own(source, copy)
    write_split(source, train=range(3), val=range(3, 6))
    with pytest.raises(InputError, match=r"train\.json was made from other images or annotations"):
        take_own(source, copy)
    assert len(json.loads((copy / "train.json").read_text())["images"]) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda s: change(s / "val.json", "annotations", []), r"val\.json has no annotations"),
        (lambda s: write_split(s, val=range(3, 6)), r"1 images are in both .*3\.png"),
        (lambda s: (s / "train.json").write_text("{"), r"train\.json"),
        (lambda s: shutil.rmtree(s.parent / "images"), "4 of 4 images"),
    ],
    ids=["no annotations", "an image in both", "no json", "no images"],
)
def test_wrong_splits_are_refused(tmp_path: Path, wrong: Any, message: str) -> None:
    source = write_split(tmp_path / "my/annotations")
    wrong(source)
    with pytest.raises(InputError, match=message):
        take_own(source, tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("task", ["semantic", "detection"])
def test_a_split_that_no_config_fits_is_refused_before_a_copy(tmp_path: Path, task: str) -> None:
    source, output = write_split(tmp_path / "my/annotations"), tmp_path / "study"
    (tmp_path / "weights.pkl").touch()
    options = f"--weights {tmp_path}/weights.pkl --task {task} --output {output} --splits {source}"
    args = parse(options.split())
    check(args, VARIANTS)
    assert args.centres == ["my"]
    change(source / "val.json", "categories", [{"id": i, "name": f"class {i}"} for i in (1, 2)])
    with pytest.raises(InputError, match=rf"{source}/val\.json has 2 categories"):
        study(parse(options.split()))
    assert not output.exists()


def test_runs_train_on_one_part_and_are_scored_on_the_other(tmp_path: Path) -> None:
    args = parse(["--weights", "w.pkl", "--splits", str(tmp_path / "my"), "--iterations", "7"])
    assert args.splits == [tmp_path / "my"]
    run = Run("unet", "plain", VARIANTS["plain"], "my", 3, tmp_path / "run", tmp_path / "data")
    command = run.command(args)
    cfg = load_config(command[3], command[4:])
    assert cfg.dataloader.train.dataset.json_file == str(tmp_path / "data/my/train.json")
    assert cfg.dataloader.test.dataset.json_file == str(tmp_path / "data/my/val.json")


def test_centres_are_not_those_of_ones_own_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--weights", "w.pkl", "--splits", "my", "--centres", "C1"])
    assert "--splits takes their place" in capsys.readouterr().err
