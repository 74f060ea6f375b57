"""What a config needs to give parts of a model learning rates of their own."""

import functools
from collections.abc import Callable

__all__ = ["bottom_up_lr"]


def bottom_up_lr(factor: float) -> Callable[[str], float]:
    """Return the ``lr_factor_func`` that multiplies the bottom-up's learning rate by ``factor``."""
    return functools.partial(_factor_of, factor=factor)


def _factor_of(name: str, factor: float) -> float:
    return factor if name.startswith("backbone.bottom_up.") else 1.0
