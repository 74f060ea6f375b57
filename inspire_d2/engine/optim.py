"""Learning rates: of parts of a model, and for a batch of another size."""

import functools
import logging
from collections.abc import Callable

from omegaconf import DictConfig

__all__ = ["bottom_up_lr", "scale_lr"]

logger = logging.getLogger(__name__)


def bottom_up_lr(factor: float) -> Callable[[str], float]:
    """Return the ``lr_factor_func`` that multiplies the bottom-up's learning rate by ``factor``.

    The copy of its stages that INSPIRE runs with ``feedback="separate"`` learns at the same rate.
    """
    return functools.partial(_factor_of, factor=factor)


def _factor_of(name: str, factor: float) -> float:
    return factor if name.startswith(("backbone.bottom_up.", "backbone.feedback_")) else 1.0


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
