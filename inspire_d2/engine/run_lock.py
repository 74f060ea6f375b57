"""One process at a time in a run's folder: two would write over each other's checkpoints."""

import argparse
import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

__all__ = ["keep_rank_lock", "run_lock"]

logger = logging.getLogger(__name__)

LOCK = ".lock"
# Held by the process that writes checkpoints, where that is another than the one that started it.
RANK_LOCK = ".lock.rank0"
# So long may that one take, after the other was killed, for its last iteration and checkpoint.
ENDING_WAIT_S = 120
# A network's file system may take so long to know that a machine is gone.
RESTARTED_WAIT_S = 120
POLL_S = 1


@contextlib.contextmanager
def run_lock(folder: str, args: argparse.Namespace) -> Iterator[None]:
    """Keep other runs out of a folder until the block ends, or this process does, however it ends.

    A run's first machine does so, for all of them. Where the file system has no locks nobody is
    kept out.

    Args:
        folder: what the run writes to.
        args: train_net.py's, with ``machine_rank`` and ``slurm_task``.

    Raises:
        InputError: another process is in there; a job that Slurm has started again waits before.
    """
    if args.machine_rank:
        yield
        return
    restarted = args.slurm_task and args.slurm_task.restarts
    with _locked(Path(folder, LOCK), RESTARTED_WAIT_S if restarted else 0):
        with _locked(Path(folder, RANK_LOCK), ENDING_WAIT_S):
            pass  # what a killed run has left has ended
        yield


def keep_rank_lock(folder: str) -> None:
    """Hold the second lock of a run's folder until this process ends, however it ends."""
    _kept.enter_context(_locked(Path(folder, RANK_LOCK), 0))


_kept = contextlib.ExitStack()


@contextlib.contextmanager
def _locked(path: Path, wait_s: float) -> Iterator[None]:
    try:
        file = open(path, "ab", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    # Never closed before the block ends: a lock of POSIX goes with any of its process's files.
    with file:
        _acquire(file.fileno(), path, wait_s)
        with contextlib.suppress(OSError):  # on a full disk others are not told who holds it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _acquire(descriptor: int, path: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    told = False
    while True:
        try:
            # Not flock: the loader's workers would inherit that, and outlive a killed run with it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            pass
        except OSError:  # a file system without locks
            return
        holder = path.read_text() if path.is_file() else ""  # it may be removed meanwhile
        holder = holder or "another process"
        if time.monotonic() >= until:
            raise InputError(
                f"{holder} is writing to {path.parent}: wait for its end, or take another "
                f"train.output_dir; if it has ended, remove {path}."
            )
        if not told:
            logger.warning("Waiting up to %g s for %s to leave %s.", wait_s, holder, path.parent)
            told = True
        time.sleep(POLL_S)
