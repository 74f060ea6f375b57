"""Building what a config describes, with mistakes told by the part that they are in."""

import traceback
from typing import Any

from detectron2.config import instantiate

from ..errors import InputError

__all__ = ["build"]

# What a wrong value makes code raise; others, such as of a GPU, are no mistakes of the config.
_MISTAKES = (
    *(AssertionError, ArithmeticError, AttributeError, ImportError, LookupError),
    *(TypeError, ValueError),
)


def build(node: Any, key: str) -> Any:
    """Instantiate a part of a config, which ``key`` names in errors.

    Raises:
        InputError: a value in it is refused by what is built of it.
    """
    try:
        return instantiate(node)
    except InputError:
        raise
    except _MISTAKES as error:
        reason = " ".join(str(error).split())
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{key} of the config cannot be built: {type(error).__name__}: {reason} "
            f"({last.filename}, line {last.lineno})"
        ) from error
