"""When a run is scored: every so often, at its end, and after a resume where that is still due."""

import sys
from typing import Any

from detectron2.engine import hooks

__all__ = ["EvaluationHook"]


class EvaluationHook(hooks.EvalHook):
    """Score every ``eval_period`` iterations and at the end, as Detectron2's EvalHook.

    Besides: a training that fails in its last iteration is not scored as if it had finished, and a
    scoring that a signal ended is made up for, under its own iteration, before a resumed run goes
    on. Comes after the hooks that hold state.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._scoring = self._due = False

    def state_dict(self) -> dict[str, bool]:
        """Return whether the scoring of this iteration is still to be done."""
        return {"due": True} if self._scoring else {}

    def load_state_dict(self, state: dict[str, bool]) -> None:
        """Take what :meth:`state_dict` returned."""
        self._due = state["due"]

    def before_train(self) -> None:
        """Do what the checkpoint says is due, as in the iteration that it was written in."""
        trainer = self.trainer
        if self._due and trainer.start_iter < trainer.max_iter:
            trainer.iter = trainer.storage.iter = trainer.start_iter - 1
            self._do_eval()
            trainer.iter = trainer.storage.iter = trainer.start_iter

    def after_train(self) -> None:
        """Score what has come to its end."""
        if sys.exc_info()[1] is None:
            # A run that had come to its end before has counted one iteration more.
            trainer = self.trainer
            trainer.storage.iter = max(trainer.start_iter, trainer.max_iter)
            super().after_train()

    def _do_eval(self) -> None:
        self._scoring = True
        super()._do_eval()
        self._scoring = False
