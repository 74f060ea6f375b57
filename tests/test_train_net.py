"""train_net.py from the command line's words to its files, on a handful of synthetic images."""

import importlib.util
import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from omegaconf import DictConfig

from inspire_d2.data import prepare, splits
from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.engine import trainer
from inspire_d2.engine.arguments import argument_parser
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.engine.hooks import MemoryMonitor
from inspire_d2.engine.signals import CODES, RESUME_ME, stop_signals
from inspire_d2.engine.slurm import SlurmTask, Start
from inspire_d2.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = str(REPOSITORY / "configs/polyp/demo_mask_rcnn_inspire.py")


def load_train_net() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_net", REPOSITORY / "train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_net = load_train_net()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    write_synthetic_set(root, 12, seed=3, size=96)
    prepare.prepare_polyps("kvasir", root, splits.RatioSplit(0.7, 0), root / "annotations")
    return root


def words(data: Path, output: Path, *more: str) -> list[str]:
    """Name the options of a small, quick run."""
    datasets = [
        f"dataloader.{split}.dataset={{name:{data.name}_{name},"
        f"json_file:{data}/annotations/{name}.json}}"
        for split, name in (("train", "train"), ("test", "val"))
    ]
    return [
        *datasets,
        f"train.output_dir={output}",
        "train.log_period=1",
        "train.checkpointer.period=2",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
        "dataloader.test.mapper.augmentations.0.short_edge_length=64",
        *more,
    ]


def run(*options: str) -> None:
    """Do what ``python train_net.py`` does, in this process."""
    args = argument_parser().parse_args([*options])
    train_net.main(args, train_net.prepare(args, Start()))


def prepared(words: list[str]) -> DictConfig:
    return train_net.prepare(argument_parser().parse_args(words), Start())


def losses(output: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return {line["iteration"]: line["total_loss"] for line in lines if "total_loss" in line}


def test_train_again_resume_and_score(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    flags = ["--config-file", CONFIG]
    cpu = "train.device=cpu"  # a GPU adds in any order
    run(*flags, *words(data, first, "train.max_iter=2", cpu))
    assert set(losses(first)) == {0, 1}
    scores = json.loads((first / "evaluation.json").read_text())
    assert set(scores) == {"bbox", "segm", "polyp", "polyp_protocol"}
    assert 0 <= scores["polyp"]["Dice"] <= 1
    assert list(first.glob("events.out.tfevents.*"))

    # The saved config trains the same: equal losses at equal seeds.
    run("--config-file", str(first / "config.yaml"), f"train.output_dir={second}")
    assert losses(second) == losses(first)

    # A second run does not write over the first; --resume goes on at the next iteration.
    with pytest.raises(InputError, match="pass --resume"):
        run(*flags, *words(data, first))
    kept = (first / "config.yaml").read_text()
    with pytest.raises(InputError, match="optimizer of the config cannot be built"):
        run("--resume", *flags, *words(data, first, "train.max_iter=3", "optimizer.betas=[2,2]"))
    assert (first / "config.yaml").read_text() == kept
    decay = "optimizer.weight_decay=0.125"
    run("--resume", *flags, *words(data, first, "train.max_iter=3", decay))
    config = load_config(str(first / "config.yaml"))
    assert (config.train.max_iter, config.optimizer.weight_decay) == (3, 0.125)
    assert set(losses(first)) == {0, 1, 2}
    lines = [json.loads(line) for line in (first / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "segm/AP" in line] == [2, 3]
    with pytest.raises(InputError, match="trained for 3 iterations already, more than train.max_i"):
        run("--resume", *flags, *words(data, first, "train.max_iter=2"))
    assert load_config(str(first / "config.yaml")).train.max_iter == 3
    saved = torch.load(first / "model_final.pth", map_location="cpu", weights_only=True)
    assert saved["iteration"] == 2
    groups = saved["trainer"]["optimizer"]["param_groups"]
    assert 0.125 in {group["weight_decay"] for group in groups}

    # Scoring takes the run's last checkpoint, and leaves the run's own files as they are.
    config = (first / "config.yaml").read_text()
    run("--eval-only", *flags, *words(data, first))
    assert (first / "config.yaml").read_text() == config
    again = json.loads((first / "evaluation" / "evaluation.json").read_text())
    assert again == json.loads((first / "evaluation.json").read_text())
    config = load_config(str(first / "evaluation" / "config.yaml"))
    assert config.train.init_checkpoint == str(first / "model_final.pth")
    other = f"train={{init_checkpoint: '{first}/model_0000001.pth'}}"
    args = argument_parser().parse_args(["--eval-only", *flags, *words(data, first, other)])
    assert train_net.prepare(args, Start()).train.init_checkpoint == f"{first}/model_0000001.pth"

    # So does each of several; one that does not fit is told at the end, and the others are done.
    torch.save({"model": {"foreign": torch.ones(1)}}, first / "model_x.pth")
    with pytest.raises(InputError, match="1 of 3 checkpoints were not scored: .*model_x.pth"):
        run("--eval-only", "--checkpoint", str(first / "model_*.pth"), *flags, *words(data, first))
    scored = first / "evaluation" / "model_final" / "evaluation.json"
    assert json.loads(scored.read_text()) == again
    table = (first / "evaluation" / "table.md").read_text()
    assert "model_0000001.pth" in table and "model_final.pth" in table and "_x" not in table
    run("--eval-only", *flags, *words(data, first, "train.tta.enabled=True"))
    assert (first / "evaluation" / "evaluation.json").exists()


class Interrupting(MemoryMonitor):
    """Send this process a signal in the third iteration."""

    def after_step(self) -> None:
        super().after_step()
        if self.trainer.iter == 2:
            signal.raise_signal(signal.SIGUSR2)


def test_a_resumed_run_equals_one_that_was_never_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two scorings and workers in one, neither in the other.
    monkeypatch.setattr(stop_signals, "requested", 0)
    before = {number: signal.getsignal(number) for number in CODES}
    stop_signals.install()
    monkeypatch.setattr(trainer, "MemoryMonitor", Interrupting)
    flags = ["--config-file", CONFIG]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    length = ["train.max_iter=6", "train.device=cpu"]  # a GPU adds in any order
    with pytest.raises(SystemExit) as end:
        run(*flags, *words(data, stopped, *length))
    assert end.value.code == RESUME_ME and set(losses(stopped)) == {0, 1, 2}
    monkeypatch.setattr(stop_signals, "requested", 0)
    for number, handler in before.items():
        signal.signal(number, handler)
    monkeypatch.undo()
    workers = ["dataloader.train.num_workers=2", "train.eval_period=2"]
    run(*flags, *words(data, whole, *workers, *length))
    run("--resume", *flags, *words(data, stopped, *length))
    assert losses(stopped) == losses(whole)
    ours, theirs = (torch.load(f / "model_final.pth")["model"] for f in (stopped, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_checkpoints_go_with_scoring(data: Path, tmp_path: Path) -> None:
    flags = ["--config-file", CONFIG, "--checkpoint", str(tmp_path / "*.pth")]
    with pytest.raises(InputError, match="goes with --eval-only"):
        run(*flags, *words(data, tmp_path))
    with pytest.raises(InputError, match=r"\*.pth: there is no such file"):
        run("--eval-only", *flags, *words(data, tmp_path))
    (tmp_path / "a.pth").touch()
    with pytest.raises(InputError, match="train.init_checkpoint=: give one of them"):
        run("--eval-only", *flags, *words(data, tmp_path, "train.init_checkpoint=b.pth"))


def test_images_without_objects_train(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "annotations" / "train.json").read_text())
    content["annotations"] = []
    empty = tmp_path / "empty.json"
    content["info"]["image_root"] = str(data)
    empty.write_text(json.dumps(content))
    output = tmp_path / "run"
    options = words(data, output, "train.max_iter=1", "model.roi_heads.batch_size_per_image=8")
    options[0] = f"dataloader.train.dataset={{name:{tmp_path.name},json_file:{empty}}}"
    run("--config-file", CONFIG, *options)
    assert all(math.isfinite(value) for value in losses(output).values())


def test_no_predictions_score_zero(data: Path, tmp_path: Path) -> None:
    silent = "model.roi_heads.box_predictor.test_score_thresh=1.0"
    run("--config-file", CONFIG, *words(data, tmp_path, "train.max_iter=1", silent))
    scores = json.loads((tmp_path / "evaluation.json").read_text())
    assert scores["bbox"]["AP"] == scores["segm"]["AP50"] == 0
    assert scores["polyp"]["Dice"] == scores["polyp"]["recall"] == 0


@pytest.mark.parametrize(
    ("flags", "overrides", "sentence"),
    [
        ([], ["train.max_itr=3"], "did you mean max_iter?"),
        ([], ["train.max_iter=3", "--resume"], "put flags before"),
        ([], ["train.max_iter=x"], "expected a value of type int"),
        ([], ["train.init_checkpoint=gone.pth"], "gone.pth does not exist"),
        ([], ["dataloader.train.dataset={name:x,json_file:gone.json}"], "gone.json"),
        ([], ["train.device=tpu3"], "not a device"),
        (["--num-gpus", "3"], [], "not a multiple of the 3"),
        ([], ["train.seed=5000000000"], "train.seed=5000000000 must be"),
        (["--eval-only"], [], "holds no checkpoint"),
        (["--eval-only"], ["train.init_checkpoint=gone.pth"], "gone.pth does not exist"),
        (["--resume"], ["train.init_checkpoint=gone.pth"], "gone.pth does not exist"),
    ],
)
def test_wrong_input_is_told_before_anything_is_built(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    overrides: list[str],
    sentence: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ["--config-file", CONFIG, *flags, *words(data, tmp_path / "run", *overrides)]
    with pytest.raises(InputError) as error:
        prepared(options)
    assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_config_that_cannot_be_saved_is_told_before_anything_is_written(
    data: Path, tmp_path: Path
) -> None:
    text = f"""
from detectron2.config import LazyConfig
own = LazyConfig.load({CONFIG!r})
model, dataloader, optimizer = own.model, own.dataloader, own.optimizer
lr_multiplier, train = own.lr_multiplier, own.train
optimizer.params.lr_factor_func = lambda name: 1.0
"""
    (tmp_path / "mine.py").write_text(text)
    options = ["--config-file", str(tmp_path / "mine.py"), *words(data, tmp_path / "run")]
    with pytest.raises(InputError, match="optimizer.params.lr_factor_func of the config, <func"):
        prepared(options)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_moved_is_not_begun_anew(data: Path, tmp_path: Path) -> None:
    options = ["--config-file", CONFIG, *words(data, tmp_path / "before")]
    cfg = prepared(["--resume", *options])  # as a job may
    (tmp_path / "before").rename(tmp_path / "moved")
    save_config(cfg, str(tmp_path / "moved" / "config.yaml"))
    (tmp_path / "moved" / "model_0000001.pth").touch()
    options = ["--config-file", str(tmp_path / "moved" / "config.yaml")]
    with pytest.raises(InputError, match=f"add train.output_dir={tmp_path}/moved to go on there"):
        prepared(["--resume", *options])
    args = argument_parser().parse_args(options)
    args.slurm_task = SlurmTask("71", num_machines=1, rank=0, restarts=1, token="71.0.1")
    train_net.prepare(args, Start())  # a new run, stopped before its first checkpoint
    assert args.resume


def test_images_that_are_gone_are_named(data: Path, tmp_path: Path) -> None:
    content = json.loads((data / "annotations" / "train.json").read_text())
    content["info"]["image_root"] = str(data)
    content["images"][0]["file_name"] = "images/lost.jpg"
    (tmp_path / "train.json").write_text(json.dumps(content))
    options = words(data, tmp_path / "run")
    options[0] = f"dataloader.train.dataset={{name:lost,json_file:{tmp_path}/train.json}}"
    with pytest.raises(InputError, match=r"lost\.jpg"):
        prepared(["--config-file", CONFIG, *options])


def test_folder_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = words(data, tmp_path / "file" / "run")
    with pytest.raises(InputError, match="train.output_dir"):
        prepared(["--config-file", CONFIG, *options])


def test_command_ends_with_one_line_and_code_2() -> None:
    command = [sys.executable, str(REPOSITORY / "train_net.py"), "--config-file", "gone.py"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1] == "error: config file gone.py does not exist."
    assert "Traceback" not in process.stderr


def test_a_second_run_in_one_folder_is_refused(data: Path, tmp_path: Path) -> None:
    holder = (
        "import argparse, sys; from inspire_d2.engine.run_lock import run_lock\n"
        "with run_lock(sys.argv[1], argparse.Namespace(machine_rank=0, slurm_task=None)):\n"
        "    print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, str(REPOSITORY / "train_net.py"), "--config-file", CONFIG]
    with subprocess.Popen([sys.executable, "-c", holder, tmp_path], **pipes) as first:
        first.stdout.readline()
        second = subprocess.run(
            command + words(data, tmp_path), capture_output=True, text=True, cwd=REPOSITORY
        )
        first.stdin.close()
    assert second.returncode == 2
    told = f"error: process {first.pid} on .* is writing to {tmp_path}: wait for its end, or take "
    assert re.match(told, second.stderr.splitlines()[-1])
    assert "Traceback" not in second.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".lock.rank0"]


def test_a_run_that_saves_while_it_is_waited_for_is_not_written_over(
    data: Path, tmp_path: Path
) -> None:
    holder = (
        "import pathlib, sys; from inspire_d2.engine.run_lock import keep_rank_lock\n"
        "keep_rank_lock(sys.argv[1]); print(flush=True); sys.stdin.read()\n"
        "pathlib.Path(sys.argv[1], 'model_0000001.pth').touch()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, str(REPOSITORY / "train_net.py"), "--config-file", CONFIG]
    with subprocess.Popen([sys.executable, "-c", holder, tmp_path], **pipes) as first:
        first.stdout.readline()
        with subprocess.Popen(
            command + words(data, tmp_path), stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
        ) as second:
            for line in second.stderr:
                if "Waiting up to" in line:
                    break
            first.stdin.close()
            told = second.stderr.read()
    assert second.returncode == 2
    assert told.splitlines()[-1].startswith(f"error: {tmp_path} holds the checkpoints of a run")
    assert not (tmp_path / "config.yaml").exists()
