"""Files of checkpoints: written in one step, and checked before a run goes on from one."""

import logging
import math
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, first_few

__all__ = ["holds_checkpoints", "newest_checkpoint", "replace_file", "save_checkpoint"]

logger = logging.getLogger(__name__)

LAST = "last_checkpoint"
# One name for all, so that a kill while writing leaves one file at most, which the next replaces.
PART = "checkpoint.part"
NUMBERED = re.compile(r"model_(\d+|final)\.pth")


def save_checkpoint(data: dict[str, Any], path: str) -> None:
    """Write a checkpoint beside its place and move it there when it is whole and on the disk.

    Raises:
        InputError: it cannot be written, as on a full disk; earlier ones stay as they are.
    """
    folder, name = os.path.split(path)
    part = os.path.join(folder, PART)
    try:
        with open(part, "wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:
        # Of a write that fails torch may tell a RuntimeError of its own.
        Path(part).unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"checkpoint {name} cannot be written to {folder} ({reason}): what was saved before is "
            "whole; make room, then go on from it with --resume."
        ) from error


def replace_file(path: str, text: str) -> None:
    """Write a short text file in one step, so that a kill leaves the old one or the new."""
    with open(path + ".tmp", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    _sync_folder(os.path.dirname(path))


def newest_checkpoint(folder: str) -> str:
    """Return the path of a run's last checkpoint that is whole, "" where it has none at all.

    The last is the one that ``last_checkpoint`` names; where that is damaged or gone, the one of
    the most iterations, with a warning. A file is whole when all checksums in it are right.

    Raises:
        InputError: there are checkpoints, but none is whole.
    """
    damaged: list[str] = []
    for path in _candidates(folder):
        if _is_whole(path):
            if damaged:
                logger.warning(
                    "Checkpoint %s is damaged or gone: %s is the newest whole one.",
                    first_few(damaged, 3),
                    path,
                )
            return path
        damaged.append(os.path.basename(path))
    if damaged:
        raise InputError(
            f"no checkpoint in {folder} is whole ({first_few(damaged, 3)} damaged or gone): start "
            "anew with another train.output_dir."
        )
    return ""


def holds_checkpoints(folder: str) -> bool:
    """Return whether a folder has checkpoints of a run, whole or not."""
    return next(_candidates(folder), None) is not None


def _candidates(folder: str) -> Iterator[str]:
    """Name the run's checkpoints, the last first, then from the most iterations to the fewest."""
    tag, last = Path(folder, LAST), ""
    if tag.is_file():
        last = os.path.join(folder, tag.read_text(errors="replace").strip() or LAST)
        yield last
    found = {str(path): NUMBERED.fullmatch(path.name) for path in Path(folder).glob("model_*.pth")}
    numbers = {path: match[1] for path, match in found.items() if match and path != last}
    iterations = {
        path: _iteration(path) if number == "final" else float(number)
        for path, number in numbers.items()
    }
    yield from sorted(iterations, key=iterations.__getitem__, reverse=True)


def _iteration(path: str) -> float:
    """Return the iteration that a checkpoint is of; infinity where that cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["iteration"]
    except Exception:  # a damaged file fails in many ways; whether it is whole is seen later
        return math.inf


def _is_whole(path: str) -> bool:
    """Whether a file is a zip archive, as torch writes them, with nothing missing or changed."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged table of contents fails in many ways, each of its own kind
        return False


def _sync_folder(folder: str) -> None:
    """Have the names in a folder reach the disk, where the system can."""
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse it for folders
        pass
    finally:
        os.close(descriptor)
