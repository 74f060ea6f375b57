"""What an iteration draws depends on seed, iteration and rank alone; metrics go on as they were."""

import json
import logging
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, JSONWriter

from inspire_d2.engine.resume import (
    MetricLine,
    MetricWindow,
    ReproducibleStream,
    mend_metrics,
)


class Loader(list):
    def start(self, seed: int, iteration: int) -> None:
        self.append((seed, iteration))


def stream(seed: int, start: int = 0, loader: list | None = None) -> ReproducibleStream:
    hook = ReproducibleStream(Loader() if loader is None else loader, seed)
    hook.trainer = SimpleNamespace(start_iter=start, iter=start)
    return hook


def draws(seed: int, iteration: int) -> tuple[float, float, float]:
    stream(seed, iteration).before_step()
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_draws_depend_on_seed_iteration_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    first = draws(0, 5)
    torch.rand(100), np.random.rand(100), random.random()
    assert draws(0, 5) == first
    others = [draws(1, 5), draws(0, 6)]
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    others.append(draws(0, 5))
    values = [value for one in [first, *others] for value in one]
    assert len(set(values)) == len(values)


def test_loader_begins_where_the_trainer_does() -> None:
    loader = Loader()
    stream(3, 12, loader).before_train()
    assert loader == [(3, 12)]


def test_a_new_seed_is_kept_by_the_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    one, other = stream(-1), stream(-1)
    assert one.state_dict() != other.state_dict()
    loader = Loader()
    resumed = stream(7, 1, loader)
    with caplog.at_level(logging.WARNING):
        resumed.load_state_dict(one.state_dict())
    assert resumed.state_dict() == one.state_dict()
    assert "goes on with the seed that it began with" in caplog.text
    resumed.before_train()
    assert loader == [(one.state_dict()["seed"], 1)]


def test_a_loader_that_cannot_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stream(0, 0, []).before_train()
        assert not caplog.text
        stream(0, 3, []).before_train()
    assert "cannot go on where it was" in caplog.text


def record(folder: Path, parts: list[range]) -> list[dict]:
    """Train in several starts on losses that jump, each with the last one's state."""
    path, state = folder / "metrics.json", None
    folder.mkdir()
    for part in parts:
        hook = MetricWindow(size=5)
        mend_metrics(str(path), part.start, MetricLine(1, 14))
        with EventStorage(part.start) as storage:
            hook.trainer = SimpleNamespace(storage=storage)
            if state is not None:
                hook.load_state_dict(state)
            hook.before_train()
            writer = JSONWriter(str(path), window_size=5)
            for storage.iter in part:
                storage.put_scalar("loss", float(storage.iter * 7 % 10))
                if storage.iter == part.stop - 1 or storage.iter == 8:
                    state = hook.state_dict()
                writer.write()
            writer.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_medians_and_lines_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    whole = record(tmp_path / "whole", [range(14)])
    assert record(tmp_path / "stopped", [range(9), range(9, 14)]) == whole
    assert [line["iteration"] for line in whole] == list(range(14))


def test_lines_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    lines = [json.dumps({"iteration": i, "total_loss": 1.0}) for i in range(4)]
    path.write_text("\n".join(lines) + '\n{"iteration": 4, "lo')
    mend_metrics(str(path), 3, MetricLine(1, 9))
    assert path.read_text().splitlines() == lines[:3]
    mend_metrics(str(path), 0, MetricLine(1, 9))
    assert path.read_text() == ""
    mend_metrics(str(tmp_path / "none.json"), 3, MetricLine(1, 9))


def test_the_score_of_a_finished_run_stays_where_it_is_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    lines = [json.dumps({"iteration": i, "total_loss": 1.0}) for i in range(3)]
    lines.append(json.dumps({"iteration": 3, "bbox/AP": 50.0}))
    path.write_text("\n".join(lines) + "\n")
    mend_metrics(str(path), 3, MetricLine(1, 9))
    assert path.read_text().splitlines() == lines
    mend_metrics(str(path), 3, MetricLine(1, 3))  # it is scored again
    assert path.read_text().splitlines() == lines[:3]


@pytest.mark.parametrize("period", [1, 3])
def test_the_line_that_a_kill_after_the_checkpoint_left_out_is_added(
    tmp_path: Path, period: int
) -> None:
    """The checkpoint of iteration 5 is written before its line: whole with it, killed without."""
    path = tmp_path / "metrics.json"
    hook = MetricLine(period, 100, size=4)
    with EventStorage(0) as storage:
        hook.trainer = SimpleNamespace(storage=storage)
        writer = JSONWriter(str(path), window_size=4)
        for storage.iter in range(6):
            storage.put_scalar("loss", float(storage.iter * 7 % 10))
            storage.put_scalar("lr", 0.1 * storage.iter, smoothing_hint=False)
            state = hook.state_dict()
            if (storage.iter + 1) % period == 0:
                writer.write()
        writer.close()
    assert {type(value) for value in state.values()} == {float, int}  # a checkpoint's, read safely
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    assert json.loads(lines[-1])["iteration"] == 5
    resumed = MetricLine(period, 100, size=4)
    resumed.load_state_dict(state)
    for left in (lines[:-1], lines, [*lines[:-1], lines[-1][:20]]):
        path.write_text("".join(left))
        mend_metrics(str(path), 6, resumed)
        assert path.read_text() == whole


@pytest.mark.parametrize(
    ("period", "max_iter", "expected"),
    [(4, 9, [4, 5]), (4, 6, [4, "5 with loss", 5]), (3, 9, [4, "5 with loss", 5])],
)
def test_a_line_is_there_if_a_run_that_is_not_stopped_writes_it(
    tmp_path: Path, period: int, max_iter: int, expected: list[object]
) -> None:
    """As the process stopped in iteration 5 it wrote the losses, and scores in a line or within."""
    path = tmp_path / "metrics.json"
    hook = MetricLine(period, max_iter)
    hook.load_state_dict({"iteration": 5, "loss": 1.0})
    lines = [{"iteration": 4}, {"iteration": 5, "loss": 1.0}, {"bbox/AP": 2.0, "iteration": 5}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    mend_metrics(str(path), 6, hook)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [f"{x['iteration']} with loss" if "loss" in x else x["iteration"] for x in found] == (
        expected
    )
    path.write_text(json.dumps({**lines[1], **lines[2]}) + "\n")
    mend_metrics(str(path), 6, hook)
    both = json.loads(path.read_text())
    assert both["bbox/AP"] == 2.0 and ("loss" in both) == ("5 with loss" in expected)


def test_times_of_another_start_are_left_out() -> None:
    hook = MetricWindow()
    hook.load_state_dict({"time": [(9.0, 0)], "data_time": [(8.0, 0)], "loss": [(1.0, 0)]})
    with EventStorage(1) as storage:
        hook.trainer = SimpleNamespace(storage=storage)
        hook.before_train()
        assert list(storage.histories()) == ["loss"]
