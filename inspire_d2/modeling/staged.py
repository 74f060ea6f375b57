"""How a bottom-up is run stage by stage, which the second pass (SSBA) needs."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from detectron2.modeling import Backbone
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "StagedBottomUpError",
    "copy_stages",
    "forget_casts",
    "keep_statistics",
    "stage_names_after",
    "warn_of_batch_norms",
]


class StagedBottomUpError(TypeError):
    """A bottom-up that does not show its stages, where more than one step needs them."""


def stage_names_after(bottom_up: Backbone, first: str, needed: Sequence[str]) -> list[str]:
    """Name a bottom-up's stages after feature ``first`` as far as the deepest one ``needed``.

    Detectron2's ResNet (``stage_names``) and RegNet (``stages_and_names``) have what it takes:
    child modules, each mapping the feature before it to its own.

    Raises:
        StagedBottomUpError: the bottom-up does not offer its stages so.
    """
    if hasattr(bottom_up, "stage_names"):
        stages = list(bottom_up.stage_names)
    elif hasattr(bottom_up, "stages_and_names"):
        stages = [name for _, name in bottom_up.stages_and_names]
    else:
        stages = []
    order = ["stem", *stages]
    missing = [name for name in stages if not isinstance(getattr(bottom_up, name, None), nn.Module)]
    if not stages or missing or not {first, *needed} <= set(order):
        raise StagedBottomUpError(
            f"steps > 1 runs the bottom-up stage by stage from {first} on, which "
            f"{type(bottom_up).__name__} does not allow: it must offer `stage_names`, a tuple "
            "with the names of its child modules in order, each mapping the feature before it "
            "to its own, as Detectron2's ResNet does; or use steps=1."
        )
    deepest = max(order.index(name) for name in needed)
    return order[order.index(first) + 1 : deepest + 1]


def copy_stages(bottom_up: Backbone, names: Sequence[str]) -> dict[str, nn.Module]:
    """Copy stages with their present weights, and their freezing, for a pass of their own."""
    return {name: copy.deepcopy(getattr(bottom_up, name)) for name in names}


def warn_of_batch_norms(parent: nn.Module, names: Sequence[str]) -> None:
    """Warn of trainable batch norms in the named children, which several steps run."""
    batch_norms = [
        f"{name}.{child}" if child else name
        for name in names
        for child, module in getattr(parent, name).named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if batch_norms:
        logging.getLogger(__name__).warning(
            "%d batch norms (%s, ...) see two distributions, plain and fed-back features, but keep "
            "one running statistic, so that evaluation differs from training: use FrozenBN or GN, "
            "or in the bottom-up feedback='separate'.",
            len(batch_norms),
            batch_norms[0],
        )


@contextmanager
def keep_statistics(parent: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are: for a forward pass that repeats one."""
    norms = [module for module in parent.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, batches) in zip(norms, before, strict=True):
        # A counter to throw away: torch's SyncBatchNorm will not go without one.
        norm.momentum = 0.0
        norm.num_batches_tracked = None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, values in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = values


def forget_casts() -> None:
    """Have autocast forget what it has cast of weights without gradients.

    Before version 2.11 PyTorch takes such a cast for those who learn, too.
    """
    if torch.is_autocast_cache_enabled() and not torch.compiler.is_compiling():
        torch.clear_autocast_cache()
