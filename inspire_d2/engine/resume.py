"""What makes a resumed run equal to one that was never stopped, besides its checkpoint."""

import json
import logging
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from .checkpoint_files import replace_file

__all__ = ["MetricLine", "MetricWindow", "ReproducibleStream", "mend_metrics"]

logger = logging.getLogger(__name__)

_TIMES = ("time", "data_time", "rank_data_time")


class ReproducibleStream(HookBase):
    """Make what an iteration draws a function of (seed, iteration, rank) alone.

    That is the data, of a loader with ``start(seed, iteration)``, and what the model draws, such as
    R-CNN's samples of proposals. So no state of generators has to be kept, and neither evaluations
    nor workers in between change anything. ``seed`` below 0 takes a new one, which the
    checkpoint holds.
    """

    def __init__(self, loader: Iterable[Any], seed: int) -> None:
        self._loader = loader
        self._seed = int(seed) if seed >= 0 else comm.shared_random_seed()

    def state_dict(self) -> dict[str, int]:
        """Return the seed."""
        return {"seed": self._seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take the seed that the run began with."""
        if state["seed"] != self._seed:
            logger.warning("The run goes on with the seed that it began with, %d.", state["seed"])
        self._seed = state["seed"]

    def before_train(self) -> None:
        """Have the loader begin at the trainer's iteration."""
        if hasattr(self._loader, "start"):
            self._loader.start(self._seed, self.trainer.start_iter)
        elif self.trainer.start_iter:
            logger.warning(
                "This config's loader cannot go on where it was: its images come in another order "
                "than without the interruption. inspire_d2.data.build_train_loader can."
            )

    def before_step(self) -> None:
        """Seed the generators of Python, NumPy and PyTorch for this iteration of this rank."""
        # The first number keeps this apart from what the loader makes of the same seed.
        entropy = (2, self._seed, self.trainer.iter, comm.get_rank())
        words = np.random.SeedSequence(entropy).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.manual_seed(int(words[2]))


class MetricWindow(HookBase):
    """Keep the last values of every metric in checkpoints, so that medians do not begin anew."""

    def __init__(self, size: int = 20) -> None:
        self._size = size
        self._values: dict[str, list[tuple[float, float]]] = {}

    def state_dict(self) -> dict[str, list[tuple[float, float]]]:
        """Return each metric's last values with their iterations."""
        histories = self.trainer.storage.histories()
        return {name: history.values()[-self._size :] for name, history in histories.items()}

    def load_state_dict(self, state: dict[str, list[tuple[float, float]]]) -> None:
        """Take what :meth:`state_dict` returned, but for times, which may be another machine's."""
        self._values = {name: values for name, values in state.items() if name not in _TIMES}

    def before_train(self) -> None:
        """Put the values where those to come will follow."""
        for name, values in self._values.items():
            for value, iteration in values:
                self.trainer.storage.histories()[name].update(value, iteration)


class MetricLine(HookBase):
    """Keep in a checkpoint its iteration's line of metrics.json, which is written only after it.

    ``period`` is the writer's, in iterations, ``max_iter`` the last one, which it writes too, and
    ``size`` the window of its medians.
    """

    def __init__(self, period: int, max_iter: int, size: int = 20) -> None:
        self.max_iter = max_iter
        self._period, self._size = period, size
        self.values: dict[str, float] = {}

    def state_dict(self) -> dict[str, float]:
        """Return the line as JSONWriter will write it."""
        storage = self.trainer.storage
        latest = storage.latest_with_smoothing_hint(self._size).items()
        # Medians are numpy's, which a checkpoint of weights alone may not hold.
        line = {name: float(value) for name, (value, when) in latest if when == storage.iter}
        return {**line, "iteration": storage.iter}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take what :meth:`state_dict` returned, as ``values``."""
        self.values = state

    @property
    def due(self) -> bool:
        """Whether the line of the checkpoint that was loaded is one that the writer writes."""
        done = self.values["iteration"] + 1
        return done % self._period == 0 or done >= self.max_iter


def mend_metrics(path: str, start: int, line: MetricLine) -> None:
    """Make a metrics.json what it is in a run that is not stopped before iteration ``start``.

    Lines of iterations from ``start`` on, which come again, are removed, and one that a killed
    process left incomplete; but the scores of a run that had come to its end stay where it is
    trained on, though they stand under the iteration that comes next. The checkpoint's own ``line``
    is added where the process was killed before it wrote it, and removed where it was written only
    as the process ended.
    """
    if not os.path.exists(path):
        return
    lines = Path(path).read_text(errors="replace").splitlines(keepends=True)
    goes_on = start < line.max_iter
    kept = [
        text
        for text in lines
        if _iteration(text) < start
        or (goes_on and _iteration(text) == start and "total_loss" not in json.loads(text))
    ]
    own = line.values
    if own and own["iteration"] == start - 1:
        if not line.due:
            kept = [_without(text, own) if _iteration(text) == start - 1 else text for text in kept]
        elif start - 1 not in map(_iteration, kept):
            kept.append(_text(own))
    if kept != lines:
        replace_file(path, "".join(kept))


def _without(text: str, own: dict[str, float]) -> str:
    """Leave of a line what is not the checkpoint's own, which are scores, "" where that is none."""
    rest = {name: value for name, value in json.loads(text).items() if name not in own}
    return _text({**rest, "iteration": own["iteration"]}) if rest else ""


def _text(line: dict[str, float]) -> str:
    return json.dumps(line, sort_keys=True) + "\n"


def _iteration(line: str) -> float:
    try:
        return json.loads(line)["iteration"] if line.endswith("\n") else np.inf
    except (ValueError, KeyError, TypeError):
        return np.inf
