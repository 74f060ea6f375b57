"""A learning-rate schedule that stops a run halfway, so that a test can do something to it there.

Without it a tiny training is over before Slurm has preempted it.
"""

import os
import time
from pathlib import Path

from detectron2.utils import comm
from fvcore.common.param_scheduler import ParamScheduler

from inspire_d2.engine.signals import stop_signals

__all__ = ["HoldingSchedule"]


class HoldingSchedule(ParamScheduler):
    """Another schedule, which at the share ``at`` of a run's first start waits.

    It leaves a file ``held.RANK`` in ``folder`` and waits until a signal reaches the process or a
    file ``go`` is there. With no folder, and in a job that was queued again, it waits for nothing.
    """

    def __init__(self, schedule: ParamScheduler, folder: str = "", at: float = 0.5) -> None:
        self._schedule, self._folder, self._at = schedule, Path(folder), at
        self._holds = bool(folder) and os.environ.get("SLURM_RESTART_COUNT", "0") == "0"

    def __call__(self, where: float) -> float:
        """Return the rate at a share of the run: called once when an iteration is done."""
        if self._holds and where == self._at:
            (self._folder / f"held.{comm.get_rank()}").touch()
            while not stop_signals.requested and not (self._folder / "go").exists():
                time.sleep(0.05)
        return self._schedule(where)
