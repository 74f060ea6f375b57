"""Errors that tell a user what is wrong, where, and what to do."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

__all__ = ["CheckpointError", "InputError", "exit_on_input_error", "first_few", "printable", "warn"]


class InputError(ValueError):
    """Wrong input from outside the program (a file, a folder, an option, a config key).

    Its message is one clear sentence; command-line tools print it and exit with code 2.
    """

    def __str__(self) -> str:
        """Return the sentence, without the traceback that a data loader's worker puts before it."""
        text = super().__str__()
        if not text.startswith(f"Caught {type(self).__name__} in DataLoader worker"):
            return text
        return text.rpartition(f"{type(self).__module__}.{type(self).__name__}: ")[2].strip()


class CheckpointError(InputError):
    """A checkpoint that does not fit a model, or cannot be read: so in every process alike."""


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Print an :class:`InputError` as one line on stderr and exit with code 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def as_size(name: str, value: object) -> tuple[int, int]:
    """Return (height, width); raise InputError, with the ``name`` of what has it, where it is none.

    Both are whole numbers, 1 or more.
    """
    if (
        not isinstance(value, Sequence)
        or len(value) != 2
        or not all(type(side) is int and side > 0 for side in value)
    ):
        raise InputError(f"{name}={value} is not a height and a width, [192,192] or such")
    return value[0], value[1]


def first_few(items: Sequence[object], limit: int = 10) -> str:
    """Join the first ``limit`` items with commas, followed by the count of those left out."""
    shown = ", ".join(str(item) for item in items[:limit])
    return f"{shown} and {len(items) - limit} more" if len(items) > limit else shown


def printable(path: object) -> str:
    """Return a path as it can be printed on stdout, which does not take every name of a file."""
    return str(path).encode(errors="backslashreplace").decode()


def warn(sentence: str) -> None:
    """Print a line on stderr about what a user may not have meant, and go on."""
    print(f"warning: {sentence}", file=sys.stderr)
