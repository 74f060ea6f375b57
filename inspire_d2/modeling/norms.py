"""Batch norm over all processes for RoI heads."""

import functools
from collections.abc import Callable

from detectron2.layers import NaiveSyncBatchNorm
from torch import nn

__all__ = ["sync_batch_norm_of_rois"]


def sync_batch_norm_of_rois() -> Callable[[int], nn.Module]:
    """Return a norm for RoI heads: channels -> batch norm over the RoIs of all processes.

    A process may have no RoI at all, which torch's SyncBatchNorm does not take; Detectron2's
    weighs each process by the number of its RoIs.
    """
    return functools.partial(NaiveSyncBatchNorm, stats_mode="N")
