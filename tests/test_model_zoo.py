"""Configs by name: what there is, what loads, and what a wrong name says."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

import inspire_d2
from inspire_d2 import model_zoo
from inspire_d2.engine.config import config_digest, load_config
from inspire_d2.errors import InputError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NAME = "polyp/mask_rcnn_r18_inspire"


def test_names_are_those_of_all_configs() -> None:
    names = model_zoo.list_configs()
    assert names == sorted(names) and NAME in names
    # Each file but those under common/ is one that train_net.py takes.
    assert {f"{name}.py" for name in names} == {
        path.relative_to(CONFIGS).as_posix()
        for path in CONFIGS.glob("*/**/*.py")
        if path.relative_to(CONFIGS).parts[0] != "common"
    }


@pytest.mark.parametrize("name", [NAME, f"{NAME}.py", f"configs/{NAME}.py"])
def test_config_is_that_of_the_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = config_digest(load_config(str(CONFIGS / f"{NAME}.py")))
    monkeypatch.chdir(tmp_path)
    assert config_digest(model_zoo.get_config(name)) == expected
    assert config_digest(load_config(name)) == expected  # what --config-file takes


def test_each_call_gives_a_config_of_its_own() -> None:
    first = model_zoo.get_config(NAME)
    first.train.max_iter = 1
    assert model_zoo.get_config(NAME).train.max_iter != 1


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("polyp/mask_rcnn_r18_inspier", NAME),
        ("mask_rcnn_r18_inspire", NAME),
        ("coco/mask_rcnn_r50_fpn_1.py", "coco/mask_rcnn_r50_fpn_1x"),
        ("common/train", ""),
        ("../configs/polyp/mask_rcnn_r18_inspire", ""),
        ("", ""),
    ],
)
def test_unknown_name_is_told_with_the_closest(name: str, closest: str) -> None:
    with pytest.raises(InputError) as error:
        model_zoo.get_config(name)
    start = f"inspire_d2 has no config {name}; the closest is "
    message = str(error.value)
    assert message.startswith(start) and message.endswith(f"{closest}.")
    assert message.removeprefix(start).removesuffix(".") in model_zoo.list_configs()


def test_file_of_the_working_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"configs/{NAME}.py"
    assert model_zoo.find_config(path) == str(CONFIGS / f"{NAME}.py")
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("train = {}\n")
    assert model_zoo.find_config(path) == path
    with pytest.raises(InputError, match="does not define model"):
        load_config(path)


def test_path_that_is_neither_is_left_as_it_is(tmp_path: Path) -> None:
    for path in ("gone.py", "", str(tmp_path / f"{NAME}.py"), "configs/common/train"):
        assert model_zoo.find_config(path) == path


def test_config_file_that_is_misspelt() -> None:
    with pytest.raises(InputError, match=f"rcn_r18_inspire does not exist; did you mean {NAME}?"):
        load_config("polyp/mask_rcn_r18_inspire")


def test_config_by_name_is_loaded_with_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    model = instantiate(model_zoo.get_config(NAME).model)
    torch.save({"model": model.state_dict()}, path)
    with pytest.raises(InputError, match="no checkpoint of its own: name one"):
        inspire_d2.load(NAME, device="cpu")
    loaded = inspire_d2.load(NAME, path, device="cpu").model
    weights = zip(loaded.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
