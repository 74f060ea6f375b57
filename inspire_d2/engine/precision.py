"""Mixed precision: float16 with scaled losses on GPUs, bfloat16 on CPUs."""

from collections.abc import Iterable
from typing import Any

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from .failures import ExplainsFailures

__all__ = ["make_trainer"]


def make_trainer(
    model: nn.Module,
    loader: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    *,
    amp: bool,
    device: str,
) -> SimpleTrainer:
    """Return Detectron2's trainer for full precision, or with ``amp`` for mixed precision.

    Its steps say in a sentence why they fail (failures.py).
    """
    if not amp:
        return _Trainer(model, loader, optimizer)
    if torch.device(device).type == "cuda":
        return _ScalingTrainer(model, loader, optimizer)
    # bfloat16 has float32's range: losses need no scaling, which AMPTrainer does, on GPUs alone.
    return _Trainer(_BFloat16(model, torch.device(device).type), loader, optimizer)


class _Trainer(ExplainsFailures, SimpleTrainer):
    pass


class _ScalingTrainer(ExplainsFailures, AMPTrainer):
    pass


class _BFloat16(nn.Module):
    """Run a model's forward pass under autocast to bfloat16."""

    def __init__(self, model: nn.Module, device_type: str) -> None:
        super().__init__()
        self.model = model
        self._device_type = device_type

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Map a batch to its losses."""
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            return self.model(batch)
