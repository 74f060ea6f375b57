"""SyncBatchNorm on machines where torch's cannot run."""

import logging

from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import nn

__all__ = ["fit_sync_batch_norm"]

logger = logging.getLogger(__name__)


def fit_sync_batch_norm(module: nn.Module, *, on_gpu: bool) -> nn.Module:
    """Replace SyncBatchNorm where it cannot run, keeping weights and statistics.

    In one process it becomes BatchNorm, which computes the same there, and on the CPU, which torch
    does not support, Detectron2's own. Says so once. Returns the module, or what replaces it.
    """
    if comm.get_world_size() == 1:
        replacement, name = nn.BatchNorm2d, "BatchNorm, as there is one process"
    elif not on_gpu:
        replacement, name = NaiveSyncBatchNorm, "Detectron2's, as there is no GPU"
    else:
        return module
    module, replaced = _replace(module, replacement)
    if replaced:
        logger.info("%d SyncBatchNorm run as %s.", replaced, name)
    return module


def _replace(module: nn.Module, replacement: type[nn.BatchNorm2d]) -> tuple[nn.Module, int]:
    """Replace a module, if it is a SyncBatchNorm, and those within it; count them."""
    if isinstance(module, nn.SyncBatchNorm):
        new = replacement(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
        )
        new.load_state_dict(module.state_dict())
        for parameter, old in zip(new.parameters(), module.parameters(), strict=True):
            parameter.requires_grad = old.requires_grad
        return new.train(module.training), 1
    replaced = 0
    for name, child in module.named_children():
        new, count = _replace(child, replacement)
        replaced += count
        if new is not child:
            setattr(module, name, new)
    return module, replaced
