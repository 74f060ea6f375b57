"""Checkpoints come when they are due and when a signal asks; the newest few are kept."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.utils.events import EventStorage

from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.engine.checkpointing import CheckpointHook
from inspire_d2.engine.signals import CODES, RESUME_ME, stop_signals

from .losses import Losses


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in CODES}
    stop_signals.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    stop_signals.__init__()


class At(HookBase):
    """Do something in one iteration, before the hooks that follow, or while a run is scored."""

    def __init__(self, iteration: int, work) -> None:
        self._iteration, self._work = iteration, work

    def after_step(self) -> None:
        if self.trainer.iter == self._iteration:
            self._work()


def train(folder: Path, max_iter: int, *before, after=(), resume=False, **options) -> SimpleTrainer:
    folder.mkdir(exist_ok=True)
    model = Losses()
    trainer = SimpleTrainer(model, [[{}]] * 100, torch.optim.SGD(model.parameters(), lr=0.1))
    checkpointer = ReportingCheckpointer(model, str(folder), allow_partial=True, trainer=trainer)
    trainer.checkpoints = CheckpointHook(checkpointer, **options)
    trainer.register_hooks([*before, trainer.checkpoints, *after])
    checkpointer.resume_or_load("", resume=resume)
    trainer.train(trainer.iter + 1 if checkpointer.resumed else 0, max_iter)
    return trainer


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.stem.removeprefix("model_") for path in folder.glob("model_*.pth"))


def test_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    train(tmp_path, 7, period=3)
    assert checkpoints(tmp_path) == ["0000002", "0000005", "final"]
    assert not stop_signals.deferred


def test_the_newest_are_kept_also_over_a_resume(tmp_path: Path) -> None:
    train(tmp_path, 5, period=1, max_to_keep=2)
    assert checkpoints(tmp_path) == ["0000003", "0000004", "final"]
    train(tmp_path, 6, period=1, max_to_keep=2, resume=True)
    assert checkpoints(tmp_path) == ["0000004", "0000005", "final"]
    train(tmp_path, 7, period=1, max_to_keep=1, resume=True)
    assert checkpoints(tmp_path) == ["0000006", "final"]


def test_keeping_0_keeps_all(tmp_path: Path) -> None:
    train(tmp_path, 5, period=1, max_to_keep=0)
    assert len(checkpoints(tmp_path)) == 5 + 1


@pytest.mark.parametrize("number", list(CODES))
def test_a_signal_stops_after_the_iteration(tmp_path: Path, number: int) -> None:
    with pytest.raises(SystemExit) as end:
        train(tmp_path, 9, At(3, lambda: signal.raise_signal(number)), period=100)
    assert end.value.code == CODES[number]
    assert checkpoints(tmp_path) == ["0000003"]
    assert f"after iteration 4 of 9: saved in {tmp_path}, --resume" in stop_signals.farewell
    stop_signals.__init__()
    whole = train(tmp_path / "whole", 9, period=100).model.weight
    assert torch.equal(train(tmp_path, 9, period=100, resume=True).model.weight, whole)


def test_a_signal_in_the_last_iteration_leaves_the_final_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        train(tmp_path, 4, At(3, lambda: signal.raise_signal(signal.SIGTERM)), period=100)
    assert end.value.code == RESUME_ME
    assert checkpoints(tmp_path) == ["final"]


def test_a_signal_while_scoring_saves_what_was_trained(tmp_path: Path) -> None:
    scored = []

    def score() -> None:
        with scoring.trainer.checkpoints.interruptible():
            scored.append("begun")
            signal.raise_signal(signal.SIGUSR2)
            scored.append("ended")

    scoring = At(4, score)
    with pytest.raises(SystemExit) as end:
        train(tmp_path, 9, after=[scoring], period=100)
    assert end.value.code == RESUME_ME and scored == ["begun"]
    assert checkpoints(tmp_path) == ["0000004"]


def test_a_signal_while_scoring_saves_nothing_twice(tmp_path: Path) -> None:
    saved = []

    def score() -> None:
        with scoring.trainer.checkpoints.interruptible():
            saved.append((tmp_path / "model_0000004.pth").stat().st_ino)
            signal.raise_signal(signal.SIGUSR2)

    scoring = At(4, score)
    with pytest.raises(SystemExit):
        train(tmp_path, 9, after=[scoring], period=5)
    assert checkpoints(tmp_path) == ["0000004"]
    # a checkpoint that is written again takes the place of the first
    assert (tmp_path / "model_0000004.pth").stat().st_ino == saved[0]


def test_before_and_after_training_a_signal_ends_at_once(tmp_path: Path) -> None:
    with EventStorage(), pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    assert not checkpoints(tmp_path)
