"""When a run writes checkpoints: every so often, at its end, and when a signal asks it to stop."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from .checkpoint import ReportingCheckpointer
from .checkpoint_files import NUMBERED
from .signals import INTERRUPTED, stop_signals

__all__ = ["CheckpointHook"]

# At most so long do the other processes wait for the one that saves.
SAVING_S = 20


class CheckpointHook(HookBase):
    """Write a checkpoint every ``period`` iterations and at the end; keep the newest few.

    As Detectron2's PeriodicCheckpointer, and besides: what is left of the run before a resume
    counts among those kept; and when a signal has reached any of the ranks, all of them agree at
    the iteration's end, one checkpoint is written for exactly that iteration, and every process
    ends with the code that :mod:`~inspire_d2.engine.signals` gives. Every rank needs this hook,
    after those that hold state.
    """

    def __init__(
        self, checkpointer: ReportingCheckpointer, period: int, max_to_keep: int | None = None
    ) -> None:
        self._checkpointer = checkpointer
        self._period = period
        self._max_to_keep = max_to_keep
        self._kept: list[str] = []
        self._saved = -1  # the iteration of the newest checkpoint written
        self._flag = torch.zeros(1, dtype=torch.int64)
        self._group: torch.distributed.ProcessGroup | None = None

    def before_train(self) -> None:
        """List what earlier starts of the run left; from now on signals wait for an iteration."""
        if comm.get_world_size() > 1:
            # On CPUs also where gradients meet on GPUs, which this must not make wait.
            self._group = torch.distributed.new_group(backend="gloo")
        found = {
            int(match[1]): str(path)
            for path in Path(self._checkpointer.save_dir).glob("model_*.pth")
            if (match := NUMBERED.fullmatch(path.name)) and match[1].isdigit()
        }
        self._kept = [found[k] for k in sorted(found) if k < self.trainer.start_iter]
        stop_signals.deferred = True

    def after_step(self) -> None:
        """Write a checkpoint if one is due; end the process if a signal asked for that."""
        done = self.trainer.iter + 1
        last = done >= self.trainer.max_iter
        code = self._agree()
        if done % self._period == 0 or (code and not last):
            self.save()
        if last:
            self._write("model_final")
            stop_signals.deferred = False
        if code:
            stop_signals.requested = code
            self._stop()

    def after_train(self) -> None:
        """Let signals end the process at once again, unless an error is about to."""
        stop_signals.deferred = isinstance(sys.exc_info()[1], Exception)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Run what may be long and changes nothing (a scoring) so that a signal ends it at once.

        What was trained is saved then, as after an iteration.
        """
        stop_signals.deferred = False
        try:
            if stop_signals.requested:  # since the ranks agreed, as while a checkpoint was written
                raise SystemExit(stop_signals.requested)
            yield
        except SystemExit:
            if not comm.is_main_process():
                # The launcher would end the others with this one, while one of them is saving.
                time.sleep(SAVING_S)
            stop_signals.deferred = True
            # Neither what is saved already, nor where what a resumed run began with is scored.
            first = max(self.trainer.start_iter, self._saved + 1)
            if first <= self.trainer.iter < self.trainer.max_iter - 1:
                self.save()
            self._say_where()
            raise
        finally:
            stop_signals.deferred = True

    def save(self) -> None:
        """Write the checkpoint of this iteration, then remove what is one too many."""
        if not comm.is_main_process():
            return
        name = f"model_{self.trainer.iter:07d}"
        self._write(name)
        self._saved = self.trainer.iter
        path = os.path.join(self._checkpointer.save_dir, f"{name}.pth")
        if path not in self._kept:
            self._kept.append(path)
        if self._max_to_keep:
            for old in self._kept[: -self._max_to_keep]:
                Path(old).unlink(missing_ok=True)
                self._kept.remove(old)

    def _stop(self) -> None:
        """End this process with the code of the signal, once the checkpoint is written."""
        comm.synchronize()
        self._say_where()
        raise SystemExit(stop_signals.requested)

    def _say_where(self) -> None:
        word = "interrupted" if stop_signals.requested == INTERRUPTED else "stopped by a signal"
        done = min(self.trainer.iter + 1, self.trainer.max_iter)
        stop_signals.farewell = (
            f"{word} after iteration {done} of {self.trainer.max_iter}: saved in "
            f"{self._checkpointer.save_dir}, --resume goes on from there"
        )

    def _write(self, name: str) -> None:
        self._checkpointer.save(name, iteration=self.trainer.iter)

    def _agree(self) -> int:
        """Return the exit code that any rank was asked for, the same on all, 0 for none."""
        if self._group is None:
            return stop_signals.requested
        self._flag[0] = stop_signals.requested
        torch.distributed.all_reduce(
            self._flag, op=torch.distributed.ReduceOp.MAX, group=self._group
        )
        return int(self._flag)
