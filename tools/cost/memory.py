"""Peak memory, each measured in a process of its own, so that nothing of another is in it.

Importing torch and Detectron2 takes seconds, so the processes are forked from one that has done
that and nothing else.
"""

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from .environment import hush
from .setting import MODES, Setting
from .subjects import SUBJECTS
from .workload import Workload

__all__ = [
    "ChildError",
    "measure_in_child",
    "measure_peaks",
    "peak_bytes",
    "private_bytes",
    "reset_peak",
]

# glibc keeps small freed blocks for itself and raises the size that counts as small as a program
# frees larger ones: the resident size would then show the history of the heap, not what is in use.
# From 64 KiB on, every tensor gets pages of its own, which go back when it is freed.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
# The main process shows warnings of third parties once; each of these would again.
ENVIRONMENT = {**MALLOC, "PYTHONWARNINGS": "ignore"}
MB = 1e6


class ChildError(RuntimeError):
    """A measuring process failed; the message says why."""


def measure_peaks(setting: Setting, subject: str, threads: int) -> dict[str, float]:
    """Run a forward and a training step in a process of its own; return each mode's peak in MB.

    The peak counts what the model adds to a process that has imported the libraries: weights,
    inputs, activations, gradients.

    Raises:
        ChildError: the process failed, or was killed for want of memory.
    """
    return measure_in_child(_peaks, setting, subject, threads=threads)


def measure_in_child(function: Callable[..., Any], *args: object, threads: int) -> Any:
    """Return what a function returns in a process of its own, with a number of torch's threads.

    Raises:
        ChildError: the process failed, or was killed for want of memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["detectron2.model_zoo"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, args, threads), daemon=True)
    with _environment(ENVIRONMENT):  # read by the process to fork from, when the first one starts
        process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise ChildError(f"its process ended with code {process.exitcode}") from None
    finally:
        process.terminate()
        process.join()
    if isinstance(result, ChildError):
        raise result
    return result


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _child(
    sender: Connection, function: Callable[..., Any], args: tuple[object, ...], threads: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    hush()
    torch.set_num_threads(threads)
    try:
        sender.send(function(*args))
    except Exception as error:
        sender.send(ChildError(f"{type(error).__name__}: {error}"))


def _peaks(setting: Setting, subject: str) -> dict[str, float]:
    _load_kernels()
    before = 0.0 if setting.device == "cuda" else private_bytes()
    workload = Workload(setting)
    model = workload.build(SUBJECTS[subject])
    peaks = {}
    for mode in MODES:
        step = workload.step(model, mode)
        gc.collect()
        reset_peak(setting.device)
        step()
        peaks[mode] = (peak_bytes(setting.device) - before) / MB
    return peaks


def _load_kernels() -> None:
    """Convolve once, so that what torch's libraries allocate at first use is no subject's."""
    weight = torch.zeros(8, 8, 3, 3, requires_grad=True)
    torch.conv2d(torch.zeros(1, 8, 16, 16), weight, padding=1).sum().backward()


def reset_peak(device: str) -> None:
    """Let the peak be counted from here on."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        # Refused in some containers: the peak is then that of the process's whole life.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: str) -> float:
    """Return the most bytes in use since the reset.

    Pages of files, which are the code of libraries, come in as it runs and are no one's cost.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    status = _status()
    if "VmHWM" not in status:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return status["VmHWM"] - status.get("RssFile", 0) - status.get("RssShmem", 0)


def private_bytes() -> float:
    """Return the resident bytes that are no file's."""
    status = _status()
    if "VmRSS" not in status:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return status["VmRSS"] - status.get("RssFile", 0) - status.get("RssShmem", 0)


def _status() -> dict[str, int]:
    """Read this process's sizes in bytes from Linux; {} elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(value) * 1024 for name, value, _ in pairs}
