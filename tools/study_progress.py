"""How far the runs of tools/study.py are, from what their logs say."""

import time
from statistics import mean

from tools.study_run import Run

__all__ = ["Progress"]


class Progress:
    """Runs of which some go on side by side: where each stands, and when the last will end.

    Args:
        waiting: runs that are still to be started.
        jobs: runs that go on side by side.
    """

    def __init__(self, waiting: int, jobs: int) -> None:
        self._waiting = waiting
        self._jobs = jobs
        self._started: dict[Run, float] = {}
        self._lengths: list[float] = []  # seconds, of those that ended

    def start(self, run: Run) -> None:
        """Note that a run begins."""
        self._waiting -= 1
        self._started[run] = time.monotonic()

    def end(self, run: Run) -> None:
        """Note that a run ended."""
        self._lengths.append(time.monotonic() - self._started.pop(run))

    def __str__(self) -> str:
        """Return one line: the runs that go on, how many wait, and the time left."""
        parts = [
            f"{run} {progress[0]}" if (progress := run.progress()) else f"{run} starting"
            for run in self._started
        ]
        return "; ".join([*parts, f"{self._waiting} to start{self.time_left()}"])

    def time_left(self) -> str:
        """Return ", about N min left", of training alone; nothing before a run has said so."""
        now = time.monotonic()
        left = {run: p[1] for run in self._started if (p := run.progress())}
        lengths = self._lengths + [now - self._started[run] + left[run] for run in left]
        if not lengths:
            return ""
        usual = mean(lengths)
        unknown = [max(0.0, usual - now + t) for r, t in self._started.items() if r not in left]
        seconds = (sum(left.values()) + sum(unknown) + self._waiting * usual) / self._jobs
        return f", about {max([seconds, *left.values(), *unknown]) / 60:.0f} min left"
