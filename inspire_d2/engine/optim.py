"""Learning rates: of parts of a model, and for a batch of another size."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig
from torch.optim import Optimizer

from ..errors import InputError, first_few

__all__ = ["bottom_up_lr", "check_kind", "hyperparameters", "keep_hyperparameters", "scale_lr"]

logger = logging.getLogger(__name__)


# What InspireFPN has beyond FPN, by the beginnings of the names of its modules.
_INSPIRE_PARTS = tuple(f"backbone.{part}" for part in ("ise", "align", "fusion", "ssba"))


def bottom_up_lr(factor: float, inspire: float = 1.0) -> Callable[[str], float]:
    """Return the ``lr_factor_func`` that gives parts of a model learning rates of their own.

    Args:
        factor: what the bottom-up's rate is multiplied by. The copy of its stages that INSPIRE
            runs with ``feedback="separate"`` learns at the same rate.
        inspire: what the rate of INSPIRE's parts (ISE, ISA, SSBA) is multiplied by; laterals and
            output convolutions, which FPN has too, learn at the rate of the heads.

    Raises:
        InputError: one of them is below 0, or no number.
    """
    for name, value in (("factor", factor), ("inspire", inspire)):
        if not value >= 0:
            raise InputError(f"optimizer.params.lr_factor_func.{name}={value} must be 0 or more.")
    return functools.partial(_factor_of, factor=factor, inspire=inspire)


def _factor_of(name: str, factor: float, inspire: float) -> float:
    if name.startswith(("backbone.bottom_up.", "backbone.feedback_")):
        return factor
    return inspire if name.startswith(_INSPIRE_PARTS) else 1.0


def scale_lr(cfg: DictConfig) -> float:
    """Return optimizer.lr for ``total_batch_size`` by the linear rule, and say so.

    It is multiplied by total_batch_size / ``train.lr_scaling.batch_size``, the batch it was chosen
    for; unchanged where that is None, or ``train.lr_scaling.enabled`` is False. The number of
    iterations stays as it is.

    Source: Accurate, Large Minibatch SGD (Goyal et al., 2017), section 2.1.
    """
    rate, batch = cfg.optimizer.lr, cfg.dataloader.train.total_batch_size
    rule = cfg.train.get("lr_scaling")  # configs saved before it was there lack it
    if not rule or not rule.batch_size or batch == rule.batch_size:
        return rate
    if not rule.enabled:
        logger.info(
            "Learning rate %g for batches of %d, though chosen for %d: lr_scaling is off.",
            rate,
            batch,
            rule.batch_size,
        )
        return rate
    scaled = rate * batch / rule.batch_size
    logger.info(
        "Learning rate %g x %d / %d = %g for batches of %d; train.max_iter stays %d "
        "(train.lr_scaling.enabled=False keeps %g).",
        rate,
        batch,
        rule.batch_size,
        scaled,
        batch,
        cfg.train.max_iter,
        rate,
    )
    return scaled


def check_kind(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Raise InputError if a state is of another kind of optimizer: a hook before it is loaded.

    It both lacks values and has others; one of them alone is another version of PyTorch.
    """
    ours, theirs = optimizer.param_groups[0].keys(), state["param_groups"][0].keys()
    lacking, others = sorted(ours - theirs), sorted(theirs - ours - {"initial_lr"})
    if lacking and others:
        raise InputError(
            f"the checkpoint's optimizer has {first_few(others)} in place of {first_few(lacking)} "
            f"of {type(optimizer).__name__}: go on with the run's own optimizer, or begin another "
            "run with train.init_checkpoint=FILE."
        )


def hyperparameters(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return what each group of an optimizer has been given beside its parameters."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def keep_hyperparameters(optimizer: Optimizer, wanted: list[dict[str, Any]]) -> None:
    """Give an optimizer back what a checkpoint's state has replaced, and say so.

    ``wanted`` is what :func:`hyperparameters` returned of it when it was new. A rate in it is the
    one that the schedule multiplies, which the state has as ``initial_lr``, and which a schedule
    that is built afterwards takes from there.
    """
    changed: dict[str, None] = {}  # each once, in order
    for group, ours in zip(optimizer.param_groups, wanted, strict=True):
        for name, value in ours.items():
            theirs = group.get("initial_lr" if name == "lr" else name)
            if _plain(theirs) == _plain(value):
                continue
            changed[f"{name} {theirs} -> {value}"] = None
            group[name] = value
            if name == "lr":
                group["initial_lr"] = value
    if changed:
        logger.info(
            "The optimizer goes on with the config's values in place of the checkpoint's: %s.",
            first_few(list(changed)),
        )


def _plain(value: Any) -> Any:
    """Return a list for a tuple, which a config cannot tell apart."""
    return list(value) if isinstance(value, tuple) else value
