"""A scoring that is interrupted leaves no scores beside the predictions of another."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator

from inspire_d2.engine.trainer import evaluate
from inspire_d2.errors import InputError


class Model(torch.nn.Module):
    def forward(self, batch: list) -> list:
        return batch


class Evaluator(DatasetEvaluator):
    """Fails while it looks at an image, or later, or not at all."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.seen = fails, 0

    def reset(self) -> None:
        self.seen = 0

    def process(self, inputs: list, outputs: list) -> None:
        self.seen += len(outputs)
        if self.fails == "process":
            raise KeyboardInterrupt

    def evaluate(self) -> dict:
        if self.fails == "evaluate":
            raise KeyboardInterrupt
        return {"task": {"AP": float(self.seen)}}


class Loader:
    """A loader one of whose workers is killed."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[list]:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., object]:
    def run(evaluator: object, loader: list | Loader | None = None, **options: object) -> object:
        loader = [[{}], [{}, {}]] if loader is None else loader
        parts = SimpleNamespace(test=loader, evaluator=evaluator)
        train = SimpleNamespace(output_dir=str(tmp_path))
        return evaluate(SimpleNamespace(dataloader=parts, train=train), Model(), **options)

    return run


@pytest.mark.parametrize("several", [False, True])
def test_results_are_written(score: Callable[..., object], tmp_path: Path, several: bool) -> None:
    calls = []
    evaluator = [Evaluator()] if several else Evaluator()
    assert score(evaluator, ready=lambda: calls.append(1)) == {"task": {"AP": 3.0}}
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"task": {"AP": 3.0}}
    assert calls == [1]


@pytest.mark.parametrize(("fails", "kept"), [("process", True), ("evaluate", False)])
def test_old_scores_go_when_new_results_come(
    score: Callable[..., object], tmp_path: Path, fails: str, kept: bool
) -> None:
    calls = []
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        score(Evaluator(fails), ready=lambda: calls.append(1))
    assert (tmp_path / "evaluation.json").exists() is kept
    assert len(calls) == (not kept)


def test_a_worker_that_dies_is_told(score: Callable[..., object]) -> None:
    told = "worker process 7 died by the signal Killed while scoring: lower dataloader.test.num_w"
    with pytest.raises(InputError, match=told):
        score(Evaluator(), Loader())
