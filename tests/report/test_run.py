"""What is read of a run's folder."""

import json
import shutil
from pathlib import Path

import pytest

from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError
from inspire_d2.report.about import cost_rows, headline
from inspire_d2.report.log import LogFacts, read_log
from inspire_d2.report.run import read_run
from inspire_d2.report.subject import gather


def test_log(runs: tuple[Path, Path], tmp_path: Path) -> None:
    facts = read_log(runs[0] / "log.txt")
    assert facts == LogFacts(
        {
            "sys.platform": "linux",
            "PyTorch": "2.11.0",  # without the path
            "GPU available": "No: torch.cuda.is_available() == False",
        },
        "GeneralizedRCNN with InspireFPN",
        7.7,
        7.5,
        0.25,
    )
    assert read_log(tmp_path / "log.txt") == LogFacts()
    (tmp_path / "log.txt").write_bytes(b"Environment info:\n\xff\x00 no table")
    assert read_log(tmp_path / "log.txt") == LogFacts()


def test_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = read_run(runs[0])
    assert run.has_polyps and run.has_boxes and not run.has_volumes
    assert run.threshold == 0.5 and run.checkpoint == ""
    assert run.series["time"] == [(19, 0.5), (39, 0.5), (59, 0.5)]
    assert "Dice" in run.evaluation["polyp"] and run.results == runs[0]
    # --eval-only leaves its results in a folder of their own.
    copy = shutil.copytree(runs[0], tmp_path / "run")
    (copy / "evaluation").mkdir()
    shutil.move(copy / "evaluation.json", copy / "evaluation")
    (copy / "metrics.json").write_text("")
    run = read_run(copy)
    assert run.results == copy / "evaluation" and "segm" in run.evaluation and run.series == {}


def test_newer_scores_of_eval_only(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[0], tmp_path / "run")
    other = shutil.copytree(runs[1], run / "evaluation")
    cfg = load_config(str(other / "config.yaml"), ["train.init_checkpoint=foreign.pth"])
    cfg.dataloader.evaluator.evaluators[1].score_threshold = 0.25
    save_config(cfg, str(other / "config.yaml"))
    (other / "evaluation.json").touch()
    subject = gather(run)
    assert subject.evaluation == json.loads((runs[1] / "evaluation.json").read_text())
    assert subject.run.threshold == 0.25
    assert "--eval-only" in subject.notes[0] and "checkpoint foreign.pth" in subject.notes[0]


def test_training_costs_what_was_trained(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[0], tmp_path / "run")
    save_config(
        load_config(str(run / "config.yaml"), ["train.max_iter=90000"]), str(run / "config.yaml")
    )
    subject = gather(run)
    assert dict(cost_rows(subject))["training"] == "about 0:00:30 (h:mm:ss), 60 iterations"
    assert "for 60 of 90000 iterations" in headline(subject)
    (run / "model_final.pth").touch()
    assert dict(cost_rows(subject))["training"] == "about 12:30:00 (h:mm:ss), 90000 iterations"


def test_a_run_whose_weights_are_gone(runs: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(runs[0], tmp_path / "run")
    (copy / "last_checkpoint").write_text("model_final.pth")
    assert read_run(copy).checkpoint == ""


def test_folders_that_hold_no_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        read_run(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no config\.yaml"):
        read_run(tmp_path)
    copy = shutil.copytree(runs[0], tmp_path / "run")
    (copy / "evaluation.json").write_text('{"polyp": {"Dice": 0.')
    with pytest.raises(InputError, match=r"evaluation\.json is not a JSON file"):
        read_run(copy)
    (copy / "evaluation.json").write_text(json.dumps([1, 2]))
    with pytest.raises(InputError, match="does not hold"):
        read_run(copy)
