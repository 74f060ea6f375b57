"""What a device computes fast: half precision, with its trainers, and channels-last weights.

Mixed precision is float16 with scaled losses on GPUs, bfloat16 on CPUs.
"""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from omegaconf import DictConfig
from torch import nn

from ..layout import channels_last_pays
from .failures import ExplainsFailures

__all__ = ["fit_to_device", "has_fast_bfloat16", "make_trainer"]

logger = logging.getLogger(__name__)


def has_fast_bfloat16() -> bool:
    """Return whether PyTorch's CPU kernels compute in bfloat16 instead of imitating it.

    Where they imitate it, a training step takes many times as long as in float32.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # To oneDNN any AVX-512 will do, but without its bfloat16 instructions training takes more than
    # twice as long as in float32 (docs/findings.md).
    return torch.cpu._is_avx512_bf16_supported() or not torch.cpu._is_avx512_supported()


def fit_to_device(train: DictConfig, device: str) -> None:
    """Take out of a config's ``train`` what slows training down on ``device``, and say so.

    Half precision goes on a CPU that imitates it, channels-last weights on one without AVX-512.
    """
    if train.amp.enabled and torch.device(device).type == "cpu" and not has_fast_bfloat16():
        logger.warning(
            "train.amp.enabled=True is set aside: this CPU has no bfloat16 instructions, and "
            "without them float32 is faster."
        )
        train.amp.enabled = False
    # Configs saved before it was there lack it.
    if train.get("channels_last") and not channels_last_pays(device):
        logger.warning(
            "train.channels_last=True is set aside: this CPU has no AVX-512 instructions, and "
            "without them training is faster in the usual order."
        )
        train.channels_last = False


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
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A run that began in full precision has no scale: it begins anew.
        super().load_state_dict({"grad_scaler": self.grad_scaler.state_dict(), **state_dict})


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
