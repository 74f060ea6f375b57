"""What a person watching a run sees: rate, time left, memory and losses."""

import contextlib
import datetime
import json
import logging
import os
import resource
import sys
from collections.abc import Collection, Iterator, Mapping

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, JSONWriter, get_event_storage

from ..errors import InputError

__all__ = ["EarlyEstimate", "MemoryMonitor", "MetricsWriter", "ProgressWriter", "peak_memory_gb"]


def peak_memory_gb(device: str) -> float:
    """Return this process's peak memory in GB: a GPU's, on the CPU the resident set."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


class MemoryMonitor(HookBase):
    """Record peak memory on ``device`` as ``memory_gb``, so that it reaches every writer."""

    def __init__(self, device: str) -> None:
        self._device = device

    def after_step(self) -> None:
        """Put the peak so far."""
        peak = peak_memory_gb(self._device)
        self.trainer.storage.put_scalar("memory_gb", peak, smoothing_hint=False)


class EarlyEstimate(HookBase):
    """Log how long a run takes as soon as that is known, where the first line of progress is far.

    Comes after Detectron2's IterationTimer, which leaves the first iterations out.
    """

    def __init__(self, period: int, patience: float = 30.0) -> None:
        """Take the iterations between lines, and the seconds that a line may take to come."""
        self._period, self._patience = period, patience
        self._told = False

    def after_step(self) -> None:
        """Log it once."""
        histories = self.trainer.storage.histories()
        if self._told or "time" not in histories:
            return
        self._told = True
        seconds = histories["time"].latest()
        if seconds * self._period > self._patience:
            left = seconds * (self.trainer.max_iter - self.trainer.iter - 1)
            logging.getLogger("detectron2").info(
                f"some {seconds:.2g} s/iteration, {datetime.timedelta(seconds=int(left))} left; a "
                f"line follows every {self._period} iterations"
            )


class ProgressWriter(EventWriter):
    """Log one line: iteration, losses, seconds an iteration, images a second, time left, memory.

    Losses and times are medians over the last ``window`` iterations.
    """

    def __init__(self, max_iter: int, images_per_iteration: int, window: int = 20) -> None:
        self._max_iter = max_iter
        self._images = images_per_iteration
        self._window = window
        self._logger = logging.getLogger("detectron2")

    def write(self) -> None:
        """Log the line of the storage's present iteration."""
        storage = get_event_storage()
        done = storage.iter + 1
        if done > self._max_iter:
            # Called once more after training.
            return
        histories = storage.histories()
        parts = [f"iteration {done} of {self._max_iter}"]
        losses = {k: h.median(self._window) for k, h in histories.items() if "loss" in k}
        total = losses.pop("total_loss", None)
        if total is not None:
            each = ", ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in losses.items())
            parts.append(f"loss {total:.3f}" + (f" ({each})" if each else ""))
        if "time" in histories:
            seconds = histories["time"].median(self._window)
            left = datetime.timedelta(seconds=int(seconds * (self._max_iter - done)))
            parts.append(f"{seconds:.2f} s/iteration, {self._images / seconds:.1f} images/s")
            parts.append(f"{left} left")
        if "memory_gb" in histories:
            parts.append(f"memory {histories['memory_gb'].latest():.1f} GB")
        if "lr" in histories:
            parts.append(f"lr {histories['lr'].latest():.2g}")
        self._logger.info("  ".join(parts))


class MetricsWriter(JSONWriter):
    """Detectron2's writer of metrics.json, which can write scores as soon as they are there.

    Raises:
        InputError: from each method, where the file cannot be written, as on a full disk.
    """

    def __init__(self, json_file: str) -> None:
        with _writing(json_file):
            super().__init__(json_file)
        self._path = json_file
        self._written: dict[str, int] = {}  # the last iteration of each metric

    def write(self) -> None:
        """Add the lines of what is new."""
        self._add(get_event_storage().latest_with_smoothing_hint(self._window_size))

    def write_scores(self, period: int, max_iter: int, names: Collection[str]) -> None:
        """Add what is new: all of it where a line of the iteration is due, else ``names`` alone."""
        storage = get_event_storage()
        if storage.iter < max_iter and (storage.iter + 1) % period:
            latest = storage.latest()
            self._add({name: latest[name] for name in names})
        else:
            self.write()

    def _add(self, latest: Mapping[str, tuple[float, int]]) -> None:
        lines: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in latest.items():
            if iteration > self._written.get(name, -1):
                self._written[name] = iteration
                lines.setdefault(iteration, {"iteration": iteration})[name] = value
        with _writing(self._path):
            for line in lines.values():
                self._file_handle.write(json.dumps(line, sort_keys=True) + "\n")
            self._file_handle.flush()
            os.fsync(self._file_handle.fileno())

    def close(self) -> None:
        """Close the file."""
        with _writing(self._path):
            super().close()


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder, name = os.path.split(path)
        raise InputError(
            f"{name} cannot be written to {folder} ({error.strerror}): what was saved before is "
            "whole; make room, then go on from it with --resume."
        ) from error
