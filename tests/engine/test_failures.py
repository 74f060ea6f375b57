"""A step that fails says why: losses that are not finite, memory, workers that die."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from inspire_d2.data import build_train_loader
from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.engine.precision import make_trainer
from inspire_d2.errors import InputError


class Model(nn.Module):
    """Its loss is what ``work`` makes of the weight and the batch."""

    def __init__(self, work: Callable[[torch.Tensor, Any], torch.Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.work = work

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        return {"loss_cls": self.weight.sum(), "loss_mask": self.work(self.weight, batch)}


def run(work: Callable[[torch.Tensor, Any], torch.Tensor], loader: Any, steps: int = 2) -> Model:
    model = Model(work)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    trainer = make_trainer(model, loader, optimizer, amp=False, device="cpu")
    with EventStorage(0):
        try:
            for trainer.iter in range(steps):
                trainer.run_step()
        except InputError:
            model.stopped_at = trainer.iter
            raise
        finally:
            run.model = model
    return model


def batches(*values: float) -> list[list[dict[str, Any]]]:
    return [[{"file_name": f"{v}_{n}.jpg", "value": v} for n in "ab"] for v in values]


def product(weight: torch.Tensor, batch: Any) -> torch.Tensor:
    return (weight * batch[0]["value"]).sum()


def test_proposals_that_are_not_finite_are_told_as_a_loss_is() -> None:
    def diverged(weight: torch.Tensor, batch: Any) -> torch.Tensor:
        raise FloatingPointError("Predicted boxes or scores contain Inf/NaN.")

    with pytest.raises(InputError, match=r"iteration 1 is not finite \(Predicted.*1.0_a.jpg"):
        run(diverged, batches(1.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_iteration_and_files(value: float) -> None:
    with pytest.raises(InputError) as told:
        run(product, batches(1.0, value))
    text = str(told.value)
    assert f"loss of iteration 2 is not finite (loss_mask {value})" in text
    assert f"its batch: {value}_a.jpg, {value}_b.jpg." in text
    # One step of the first batch was made, 1 - 0.25 (1 + 1), and none of the second.
    torch.testing.assert_close(run.model.weight.detach(), torch.tensor([0.5]))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_no_memory_says_what_to_lower(text: str) -> None:
    def fail(weight: torch.Tensor, batch: Any) -> torch.Tensor:
        raise RuntimeError(text)

    with pytest.raises(InputError, match=r"memory ran out in iteration 1; its batch: 1.0_a.jpg"):
        run(fail, batches(1.0))


def test_memory_that_cannot_be_had_on_this_machine() -> None:
    """What torch raises in earnest, for 8 petabytes."""

    def fail(weight: torch.Tensor, batch: Any) -> torch.Tensor:
        return torch.empty(2**50, dtype=torch.float64).sum()

    with pytest.raises(InputError, match="total_batch_size"):
        run(fail, batches(1.0))


def test_memory_that_numpy_cannot_have() -> None:
    def fail(weight: torch.Tensor, batch: Any) -> torch.Tensor:
        return torch.from_numpy(np.empty(2**50)).sum()

    with pytest.raises(InputError, match="total_batch_size"):
        run(fail, batches(1.0))


class Dies:
    """A mapper that kills the worker which maps the eighth image and later ones."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["n"] >= 8 and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return item


def test_a_worker_that_dies_is_named() -> None:
    items = [{"n": n, "file_name": f"{n}.jpg", "value": 1.0} for n in range(9)]
    loader = build_train_loader(items, mapper=Dies(os.getpid()), total_batch_size=1,
                                aspect_ratio_grouping=False, num_workers=1)  # fmt: skip
    with pytest.raises(InputError, match=r"worker process \d+ died in iteration \d+"):
        run(product, loader, steps=100)


def test_other_errors_stay_what_they_are() -> None:
    def fail(weight: torch.Tensor, batch: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match") as error:
        run(fail, batches(1.0))
    assert not isinstance(error.value, InputError)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = Model(product)
    checkpointer = ReportingCheckpointer(model, str(tmp_path))
    checkpointer.save("model_0000004")
    model.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="weight is not finite: model_0000009 is not saved"):
        checkpointer.save("model_0000009")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000004.pth"]
