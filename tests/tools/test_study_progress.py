"""What a study says of the runs that go on."""

import logging
from pathlib import Path

import pytest
from detectron2.utils.events import EventStorage

from inspire_d2.engine.hooks import ProgressWriter
from tools import study_progress
from tools.study_progress import Progress
from tools.study_run import Run
from tools.study_variants import VARIANTS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the study believes to have passed: its last entry."""
    seconds = [0.0]
    monkeypatch.setattr(study_progress.time, "monotonic", lambda: seconds[-1])
    return seconds


def run_of(folder: Path, seed: int, log: str = "") -> Run:
    run = Run("semantic", "plain", VARIANTS["plain"], "C1", seed, folder / f"seed{seed}", folder)
    run.folder.mkdir()
    (run.folder / "study.log").write_text(log)
    return run


def line_of(iteration: int, max_iter: int, seconds: float, caplog: pytest.LogCaptureFixture) -> str:
    """What train_net.py writes of an iteration."""
    with caplog.at_level(logging.INFO, "detectron2"), EventStorage(iteration) as storage:
        storage.put_scalars(total_loss=1.25, loss_sem_seg=0.5, time=seconds)
        ProgressWriter(max_iter, 8).write()
    return f"[11/28 10:33:40 detectron2]: {caplog.messages[-1]}\n"


def test_a_run_tells_how_far_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run_of(tmp_path, 0).progress() is None
    first = "some 5.4 s/iteration, 0:32:55 left; a line follows every 20 iterations\n"
    assert run_of(tmp_path, 1, first).progress() == ("begun", 32 * 60 + 55)

    lines = line_of(19, 368, 4.0, caplog) + line_of(39, 368, 5.0, caplog)
    assert run_of(tmp_path, 2, first + lines).progress() == ("40 of 368", 5 * 328)
    days = line_of(99, 100_100, 2.0, caplog)  # 2 days, 7:33:20
    assert run_of(tmp_path, 3, days).progress() == ("100 of 100100", 200_000)
    assert run_of(tmp_path, 4, "x" * 100_000 + "\n" + lines).progress() == ("40 of 368", 1640)


def test_the_time_left_is_of_all_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    runs = [run_of(tmp_path, seed) for seed in range(5)]
    progress = Progress(waiting=5, jobs=2)
    for run in runs[:2]:
        progress.start(run)
    assert str(progress) == "C1/plain/seed0 starting; C1/plain/seed1 starting; 3 to start"

    # After 4 minutes one run has 20 left, so that each takes 24: 20 + 20 + 3 x 24 of two at once.
    clock.append(240.0)
    (runs[0].folder / "study.log").write_text(line_of(49, 300, 4.8, caplog))
    assert str(progress) == (
        "C1/plain/seed0 50 of 300; C1/plain/seed1 starting; 3 to start, about 56 min left"
    )

    # Each took 30 minutes: three are left for two at once.
    clock.append(1800.0)
    for run in runs[:2]:
        progress.end(run)
    assert str(progress) == "3 to start, about 45 min left"
    for run in runs[2:]:
        progress.start(run)
    assert progress.time_left() == ", about 45 min left"
    for run in runs[2:4]:
        progress.end(run)
    # One that takes longer than the others do is about to end; the last takes as long as it takes.
    (runs[4].folder / "study.log").write_text(line_of(29, 300, 10.0, caplog))
    assert progress.time_left() == ", about 45 min left"
