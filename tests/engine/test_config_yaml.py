"""Configs in yaml: what is read, and what is refused before it can run."""

from pathlib import Path

import pytest

from inspire_d2.engine.config import load_config, save_config
from inspire_d2.engine.config_yaml import check_saveable, read_yaml
from inspire_d2.errors import InputError
from inspire_d2.model_zoo import get_config, list_configs


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch canary']",
        "a: !!python/object/new:os.system ['touch canary']",
        "a: !!python/name:os.system",
        "a: !!python/module:os",
        "!!python/object/apply:builtins.eval [\"open('canary', 'w')\"]",
    ],
)
def test_tags_that_are_code_are_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"config.yaml is refused: .*\(line 1\), which may be code"
    ):
        load_config(written(tmp_path, text))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "runpy.run_path"),
        *("torch.os.system", "cv2.os.system", "cv2.os.popen"),  # by another name
        *("torch.load", "torch.hub.load", "torch.jit.load", "numpy.load", "yaml.unsafe_load"),
        *("detectron2.config.LazyConfig.load", "detectron2.config.instantiate"),
    ],
)
def test_targets_that_may_run_anything_are_refused(target: str, tmp_path: Path) -> None:
    text = f"model: [{{a: {{_target_: {target}, command: touch canary}}}}]"
    with pytest.raises(InputError, match=f"refused: its _target_ {target} may run anything"):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize(
    "target", ["torch.nn.Conv2d", "my_project.heads.Mine", "functools.partial"]
)
def test_other_targets_are_read(target: str, tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, f"a: {{_target_: {target}}}")).a._target_ == target


def test_tuples_of_detectron2_are_lists(tmp_path: Path) -> None:
    assert list(read_yaml(written(tmp_path, "a: !!python/tuple [1, 2]")).a) == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "is not valid yaml"),
        ("a: &a [*a]", "it contains itself"),
        ("\x00", "is not valid yaml"),
        ("[" * 5000, "is not valid yaml"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),  # noqa: E501
            "stands for more than 1000000 values",
        ),
    ],
    ids=["cut off", "cyclic", "binary", "deep", "many laughs"],
)  # fmt: skip
def test_broken_files_are_told(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize("name", list_configs())
def test_saved_configs_are_read(name: str, tmp_path: Path) -> None:
    cfg = get_config(name)
    check_saveable(cfg)
    save_config(cfg, str(tmp_path / "config.yaml"))
    assert load_config(str(tmp_path / "config.yaml")).model.keys() == cfg.model.keys()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("optimizer.params.f = partial(max, 1)", "optimizer.params.f"),
        ("optimizer.params.f = lambda name: 1.0", "optimizer.params.f"),
        ("def f(): pass\noptimizer._target_ = f", "optimizer._target_"),
        ("import numpy\nmodel['rate'] = numpy.float64(2)", "model.rate"),
        ("model['parts'] = [dict(a=1), dict(b=object())]", "model.parts.1.b"),
    ],
)
def test_what_cannot_be_saved_is_told(line: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE + line)
    with pytest.raises(InputError) as error:
        check_saveable(load_config(str(path)))
    text = str(error.value)
    assert text.startswith(f"{key} of the config, ") and "L(function)(...)" in text
    assert "\n" not in text


def test_what_can_be_imported_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE + "import torch\nmodel = L(torch.nn.ReLU)(kind=torch.nn.Linear)")
    check_saveable(load_config(str(path)))


MINE = """
from functools import partial
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from torch.optim import SGD
model = dict(shape=ShapeSpec(channels=3), pair=(1, 2.0))
dataloader = lr_multiplier = train = {}
optimizer = L(SGD)(params=dict(foreach=False))
"""
