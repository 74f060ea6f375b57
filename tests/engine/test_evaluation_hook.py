"""A run is scored when it is due: not after a failure, and once more after a resume."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.utils.events import get_event_storage

from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.engine.checkpointing import CheckpointHook
from inspire_d2.engine.evaluation_hook import EvaluationHook
from inspire_d2.engine.signals import RESUME_ME, stop_signals

from .losses import Losses


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    yield
    stop_signals.__init__()


class Failing(HookBase):
    """Raise an error in one iteration."""

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def after_step(self) -> None:
        if self.trainer.iter == self._iteration:
            raise OSError("no space left")


class Signal(HookBase):
    """Ask a run to stop as a signal does that comes while a checkpoint is written."""

    def __init__(self, checkpointer: ReportingCheckpointer, iteration: int) -> None:
        self._save, self._iteration = checkpointer.save, iteration
        checkpointer.save = self.save

    def save(self, name: str, **values: object) -> None:
        self._save(name, **values)
        if self.trainer.iter == self._iteration:
            os.kill(os.getpid(), signal.SIGTERM)


class Run:
    """A training that notes each scoring: iteration of the storage, weight, and its outcome."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scored: list[tuple[int, float]] = []

    def train(
        self,
        max_iter: int,
        *before: HookBase,
        stop_at: int = -1,
        killed: bool = False,
        resume: bool = False,
        signal_at: int = -1,
        eval_period: int = 2,
    ) -> None:
        model = Losses()
        trainer = SimpleTrainer(model, [[{}]] * 100, torch.optim.SGD(model.parameters(), lr=0.1))
        checkpointer = ReportingCheckpointer(model, str(self.folder), trainer=trainer)
        checkpoints = CheckpointHook(checkpointer, period=2)

        def score() -> dict[str, float]:
            with checkpoints.interruptible():
                iteration = get_event_storage().iter
                if iteration == stop_at:
                    if killed:
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise SystemExit(RESUME_ME)
                self.scored.append((iteration, model.weight.item()))
            return {"AP": 1.0}

        evaluation = EvaluationHook(eval_period, score, folder=str(self.folder))
        ask = Signal(checkpointer, signal_at)
        trainer.register_hooks([*before, ask, checkpoints, evaluation])
        checkpointer.resume_or_load("", resume=resume)
        trainer.train(trainer.iter + 1 if checkpointer.resumed else 0, max_iter)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Run]:
    def make(name: str) -> Run:
        (tmp_path / name).mkdir()
        return Run(tmp_path / name)

    return make


def test_a_training_that_fails_in_its_last_iteration_is_not_scored(run) -> None:
    failed = run("failed")
    with pytest.raises(OSError, match="no space"):
        failed.train(3, Failing(2))
    assert [iteration for iteration, _ in failed.scored] == [1]
    whole = run("whole")
    whole.train(3)
    assert [iteration for iteration, _ in whole.scored] == [1, 3]


def test_what_a_signal_ended_is_scored_after_the_resume(run) -> None:
    whole, stopped = run("whole"), run("stopped")
    whole.train(5)
    assert [iteration for iteration, _ in whole.scored] == [1, 3, 5]
    with pytest.raises(SystemExit):
        stopped.train(5, stop_at=3)
    saved = sorted(path.name for path in stopped.folder.glob("*.pth"))
    assert saved == ["model_0000001.pth", "model_0000003.pth"]
    for _ in range(2):  # stopped again while that is made up for
        stop_signals.__init__()
        with pytest.raises(SystemExit):
            stopped.train(5, stop_at=3, resume=True)
        assert sorted(path.name for path in stopped.folder.glob("*.pth")) == saved
    stop_signals.__init__()
    stopped.train(5, resume=True)
    assert stopped.scored == whole.scored
    # A checkpoint from before a scoring that came to its end leaves nothing to make up for.
    (stopped.folder / "last_checkpoint").write_text("model_0000001.pth")
    stopped.scored.clear()
    stopped.train(5, resume=True)
    assert stopped.scored == whole.scored[1:]


def test_what_kill_9_ended_is_scored_after_the_resume(run) -> None:
    whole, killed = run("whole"), run("killed")
    whole.train(5)
    for resume in (False, True):  # killed again while that is made up for
        child = os.fork()
        if not child:
            killed.train(5, stop_at=3, killed=True, resume=resume)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    killed.train(5, resume=True)
    assert killed.scored == whole.scored[1:]  # the first was the child's
    assert not (killed.folder / ".scoring").exists()


def test_a_finished_run_that_is_resumed_is_scored_in_the_same_iteration(run) -> None:
    finished = run("finished")
    finished.train(3)
    finished.scored.clear()
    finished.train(3, resume=True)
    assert [iteration for iteration, _ in finished.scored] == [3]


@pytest.mark.parametrize("iteration", [3, 4])  # one that is scored, the last
def test_a_signal_while_a_checkpoint_is_written_costs_no_scoring(run, iteration: int) -> None:
    whole, stopped = run("whole"), run("stopped")
    whole.train(5)
    stop_signals.install()
    with pytest.raises(SystemExit) as ended:
        stopped.train(5, signal_at=iteration)
    assert ended.value.code == RESUME_ME
    stop_signals.__init__()
    stopped.train(5, resume=True)
    assert stopped.scored == whole.scored


def test_a_scoring_that_fails_can_be_left_out(run) -> None:
    failing = run("failing")
    with pytest.raises(SystemExit):
        failing.train(5, stop_at=3)
    stop_signals.__init__()
    failing.scored.clear()
    failing.train(5, stop_at=3, resume=True, eval_period=0)
    assert [iteration for iteration, _ in failing.scored] == [5]


class Ask(HookBase):
    """Ask a run to stop in one iteration, before its checkpoint."""

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def before_step(self) -> None:
        if self.trainer.iter == self._iteration:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_between_an_iteration_and_its_scoring_costs_none(run) -> None:
    whole, stopped = run("whole"), run("stopped")
    whole.train(5)
    stop_signals.install()
    with pytest.raises(SystemExit):
        stopped.train(5, Ask(3))
    assert [iteration for iteration, _ in stopped.scored] == [1]
    stop_signals.__init__()
    stopped.train(5, resume=True)
    assert stopped.scored == whole.scored


def test_scores_are_written_before_they_count_as_done(run) -> None:
    written = []

    class Noting(HookBase):
        def before_train(self) -> None:
            hook = next(one for one in self.trainer._hooks if isinstance(one, EvaluationHook))
            marker = scored.folder / ".scoring"
            hook.write = lambda names: written.append((marker.read_text(), list(names)))

    scored = run("scored")
    scored.train(5, Noting())
    assert written == [("1", ["AP"]), ("3", ["AP"]), ("5", ["AP"])]
