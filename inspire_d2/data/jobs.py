"""Work on many items in several processes, with a progress bar, that Ctrl-C ends soon.

The processes end with the one that started them, whatever ends that.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from inspire_d2.errors import InputError

__all__ = ["run_jobs"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_stopped: Any = None  # in a worker: an event that is set when nothing more is wanted


def run_jobs(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    *,
    unit: str,
    doing: str,
    after_a_death: str,
    chunk: int = 1,
) -> list[Result]:
    """Return ``work`` of each item, in their order, done by ``jobs`` processes.

    After Ctrl-C, or an error, what is being worked on is finished and nothing more begun.

    Args:
        unit, doing: what the progress bar calls an item, and the work.
        after_a_death: what to say when a process died.
        chunk: items that a process takes at once; more where they are quick.

    Raises:
        InputError: a process died.
    """
    if jobs == 1:
        return _collect(map(work, items), len(items), unit, doing)
    # Forking spares a second import.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    stopped = context.Event()
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (stopped, os.getpid()))
    try:
        # A Ctrl-C waits until all workers are there: half a pool could not be ended.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            results = pool.map(partial(_unless_stopped, work), items, chunksize=chunk)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return _collect(results, len(items), unit, doing)
    except BrokenProcessPool as error:
        raise InputError(
            f"a worker process died, perhaps for lack of memory; {after_a_death}"
        ) from error
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _collect(results: Iterable[Result], total: int, unit: str, doing: str) -> list[Result]:
    """Gather the results with a progress bar, drawn rarely where stderr is a file."""
    every = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(results, total=total, unit=unit, desc=doing, mininterval=every) as bar:
        return list(bar)


def _unless_stopped(work: Callable[[Item], Result], item: Item) -> Result | None:
    return None if _stopped.is_set() else work(item)


def _start_worker(stopped: Any, owner: int) -> None:
    global _stopped
    _stopped = stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process answers Ctrl-C
    threading.Thread(target=_end_with, args=(owner,), daemon=True).start()


def _end_with(owner: int) -> None:
    """End this process soon after its owner, which cannot say so when a signal ends it."""
    while os.getppid() == owner:
        time.sleep(0.5)
    os._exit(1)
