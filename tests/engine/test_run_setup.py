"""Setting a run's process up logs what Detectron2 logs, and leaves a run's config as it is."""

import argparse
import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from inspire_d2.engine.run_setup import set_up_run


def test_config_stays_and_all_is_logged_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("the run's own")
    cfg = OmegaConf.create({"train": {"output_dir": str(tmp_path), "seed": 5}})
    set_up_run(cfg, argparse.Namespace(config_file="", eval_only=False)).info("ours")
    drawn = random.random()
    set_up_run(cfg, argparse.Namespace(config_file="", eval_only=False))
    assert random.random() == drawn  # both seed
    assert (tmp_path / "config.yaml").read_text() == "the run's own"
    assert [path.name for path in tmp_path.iterdir() if path.name != "log.txt"] == ["config.yaml"]
    assert cfg.train.output_dir == str(tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert log.count("inspire_d2 INFO: ours") == 1
    assert log.count("Environment info") == log.count("World size") == 2
    capsys.readouterr()
