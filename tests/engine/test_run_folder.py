"""Where a run's scores are found, and what runs are called."""

import os
from pathlib import Path

import pytest

from inspire_d2.engine.config import load_config, save_config
from inspire_d2.engine.run_folder import find_scores, run_names

CONFIG = str(Path(__file__).resolve().parents[2] / "configs/polyp/mask_rcnn_r18_fpn.py")


def write(path: Path, seconds: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    os.utime(path, (seconds, seconds))


def test_the_newer_scores_count(tmp_path: Path) -> None:
    cfg = load_config(CONFIG)
    own, other = (tmp_path / name for name in ("evaluation.json", "evaluation/evaluation.json"))
    assert find_scores(tmp_path, cfg) == (tmp_path, cfg, "")
    write(own, 100)
    assert find_scores(tmp_path, cfg) == (tmp_path, cfg, "")
    write(other, 50)
    folder, _, note = find_scores(tmp_path, cfg)
    assert folder == tmp_path and "older scores, of --eval-only" in note
    write(other, 200)
    folder, _, note = find_scores(tmp_path, cfg)
    assert folder == other.parent and f"{own} is older" in note
    own.unlink()
    folder, _, note = find_scores(tmp_path, cfg)
    assert folder == other.parent and note.endswith(f"--eval-only in {folder}.")


@pytest.mark.parametrize("seconds", [150, 250])  # copies of a run may have other times
def test_the_checkpoint_that_was_scored_is_named(tmp_path: Path, seconds: int) -> None:
    write(tmp_path / "evaluation" / "evaluation.json", 200)
    config = tmp_path / "evaluation" / "config.yaml"
    cfg = load_config(CONFIG)
    save_config(cfg, str(config))
    os.utime(config, (seconds, seconds))
    # It is what training began with.
    assert ", of checkpoint" not in find_scores(tmp_path, cfg).note
    overrides = ["train.init_checkpoint=other/model.pth", "dataloader.test.dataset.name=foreign"]
    save_config(load_config(CONFIG, overrides), str(config))
    os.utime(config, (seconds, seconds))
    folder, theirs, note = find_scores(tmp_path, cfg)
    assert folder.name == "evaluation" and "of checkpoint other/model.pth" in note
    assert theirs.dataloader.test.dataset.name == "foreign"


def test_scores_of_several_checkpoints_are_told(tmp_path: Path) -> None:
    cfg = load_config(CONFIG)
    write(tmp_path / "evaluation.json", 100)
    write(tmp_path / "evaluation" / "scores.json", 200)
    folder, _, note = find_scores(tmp_path, cfg)
    assert folder == tmp_path and "newer scores, of several checkpoints, which are left out" in note
    write(tmp_path / "evaluation" / "evaluation.json", 300)
    assert find_scores(tmp_path, cfg).folder.name == "evaluation"


def test_runs_are_told_apart(tmp_path: Path) -> None:
    folders = [
        tmp_path / name for name in ("plain/seed0", "steps1/seed0", "other", "a/b/plain/seed0")
    ]
    names = run_names([*folders, folders[2]])
    top = tmp_path.name
    assert names == [f"{top}/plain/seed0", "steps1/seed0", "other", "b/plain/seed0", "other"]
