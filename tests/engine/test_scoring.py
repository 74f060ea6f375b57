"""Which checkpoints are scored, and how their table is laid out."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from inspire_d2.engine.scoring import (
    _names,
    find_checkpoints,
    score_checkpoints,
    score_table,
)
from inspire_d2.errors import CheckpointError, InputError


def test_globs_and_names_each_once(tmp_path: Path) -> None:
    for name in ("model_2.pth", "model_1.pth", "other[1].pth"):
        (tmp_path / name).touch()
    found = find_checkpoints([f"{tmp_path}/model_*.pth", f"{tmp_path}/model_1.pth"])
    assert [Path(path).name for path in found] == ["model_1.pth", "model_2.pth"]
    # a name that looks like a glob is a file where there is such a file
    assert find_checkpoints([f"{tmp_path}/other[1].pth"]) == [f"{tmp_path}/other[1].pth"]
    (tmp_path / "model_folder.pth").mkdir()
    assert find_checkpoints([f"{tmp_path}/model_*.pth"]) == found[:2]
    (tmp_path / "run [1]" / "sub").mkdir(parents=True)
    (tmp_path / "run [1]" / "sub" / "a.pth").touch()
    inside = f"{tmp_path}/run [1]/sub/a.pth"
    assert find_checkpoints([f"{tmp_path}/run [1]/s*/*.pth"]) == [inside]
    with pytest.raises(InputError, match=r"none\*.pth: there is no such file"):
        find_checkpoints([f"{tmp_path}/none*.pth"])


def test_folders_are_told_apart() -> None:
    assert _names(["a/x.pth", "b/y.pth"]) == ["x", "y"]
    assert _names(["a/x.pth", "b/x.pth"]) == ["a_x", "b_x"]
    assert len(set(_names(["1/a/x.pth", "2/a/x.pth"]))) == 2


def test_scores_are_json_also_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"segm": {"AP": 20.0, "APs": float("nan")}}
    monkeypatch.setattr("inspire_d2.engine.scoring.run_evaluation", lambda *_, **__: found)
    score_checkpoints(OmegaConf.create({"train": {"output_dir": str(tmp_path)}}), ["a.pth"])
    assert "NaN" not in (tmp_path / "scores.json").read_text()
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content == {"a.pth": {"segm": {"AP": 20.0, "APs": None}}}


def test_checkpoints_that_do_not_fit_are_passed_over_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that one process of several cannot read must end all: the others wait for it."""
    tried, errors = [], {"a.pth": CheckpointError("a does not fit")}

    def evaluation(_: object, path: str, **__: object) -> dict[str, dict[str, float]]:
        tried.append(path)
        if path in errors:
            raise errors[path]
        return {"segm": {"AP": 20.0}}

    monkeypatch.setattr("inspire_d2.engine.scoring.run_evaluation", evaluation)
    cfg = OmegaConf.create({"train": {"output_dir": str(tmp_path)}})
    with pytest.raises(InputError, match="1 of 2 checkpoints were not scored: a does not fit"):
        score_checkpoints(cfg, ["a.pth", "b.pth"])
    assert list(json.loads((tmp_path / "scores.json").read_text())) == ["b.pth"]
    tried.clear()
    errors["a.pth"] = InputError("image x.jpg cannot be read")
    with pytest.raises(InputError, match=r"^image x.jpg cannot be read$"):
        score_checkpoints(cfg, ["a.pth", "b.pth"])
    assert tried == ["a.pth"]


def test_best_is_last() -> None:
    scores = {
        "a": {"bbox": {"AP": 90.0}, "segm": {"AP": 20.0, "AP50": 31.25}},
        "b": {"bbox": {"AP": 10.0}, "segm": {"AP": float("nan")}},
        "c": {"bbox": {"AP": 50.0}, "segm": {"AP": 10.0}},
    }
    head, _, *rows, _, note = score_table(scores).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:5]] == [
        "checkpoint",
        "segm AP",
        "bbox AP",
        "segm AP50",
    ]
    assert [row.split("|")[1].strip() for row in rows] == ["b", "c", "a"]
    assert rows[-1].split("|")[4].strip() == "31.25" and rows[1].split("|")[4].strip() == "-"
    assert note.startswith("By segm AP")
