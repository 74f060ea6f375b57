"""What is told of a run: its length before the first line of progress, memory, a full disk."""

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage

from inspire_d2.engine.hooks import EarlyEstimate, MetricsWriter, peak_memory_gb
from inspire_d2.errors import InputError


@pytest.mark.parametrize(("seconds", "told"), [(4.0, "0:06:28 left"), (0.5, None)])
def test_slow_runs_tell_early_how_long_they_take(
    seconds: float, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "detectron2")
    hook = EarlyEstimate(period=20)
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(storage=storage, iter=0, max_iter=100)
        hook.after_step()  # the timer has nothing yet
        assert not caplog.messages
        for hook.trainer.iter in (2, 3, 4):
            storage.put_scalar("time", seconds)
            hook.after_step()
    assert len(caplog.messages) == (told is not None)
    if told:  # 97 iterations of 4 s
        assert told in caplog.messages[0] and "every 20 iterations" in caplog.messages[0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").symlink_to("/dev/full")
    told = f"metrics.json cannot be written to {tmp_path} .No space left on device.: .*--resume"
    with EventStorage() as storage:
        writer = MetricsWriter(str(tmp_path / "metrics.json"))
        storage.put_scalar("loss", 1.0)
        for write in (writer.write, writer.close):
            with pytest.raises(InputError, match=told):
                write()


def test_memory_is_that_of_the_runs_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    used = {"cuda": 3e9, "cuda:1": 5e9}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", used.__getitem__)
    assert peak_memory_gb("cuda") == 3 and peak_memory_gb("cuda:1") == 5
    assert 0.01 < peak_memory_gb("cpu") != 3  # of a process that has loaded torch


@pytest.mark.parametrize("period", [1, 3])
def test_no_scores_are_lost_between_two_lines(tmp_path: Path, period: int) -> None:
    path = tmp_path / "metrics.json"
    writer = MetricsWriter(str(path))
    with EventStorage() as storage:
        for number in range(6):
            storage.iter = number
            storage.put_scalar("loss", 10 + number, smoothing_hint=False)
            storage.put_scalar("AP", number, smoothing_hint=False)
            writer.write_scores(period, 6, ["AP"])
            if (number + 1) % period == 0:
                writer.write()
        writer.write()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["iteration"], line["AP"]) for line in lines] == [(n, n) for n in range(6)]
    due = {line["iteration"]: line["loss"] for line in lines if "loss" in line}
    assert due == {number: 10 + number for number in range(period - 1, 6, period)}
