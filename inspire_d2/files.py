"""Files that are there as a whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from inspire_d2.errors import InputError

__all__ = ["written_in_one_step"]


@contextlib.contextmanager
def written_in_one_step(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends; folders are made.

    What is interrupted or fails leaves ``path`` as it was, and nothing beside it.

    Raises:
        InputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
