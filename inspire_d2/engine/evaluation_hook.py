"""When a run is scored: every so often, at its end, and after a resume where that is still due."""

import logging
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from detectron2.engine import hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from .checkpoint_files import replace_file

__all__ = ["EvaluationHook"]

logger = logging.getLogger(__name__)

# In the run's folder while it is scored, with the iteration.
SCORING = ".scoring"


class EvaluationHook(hooks.EvalHook):
    """Score every ``eval_period`` iterations and at the end, as Detectron2's EvalHook.

    Besides: a training that fails in its last iteration is not scored as if it had finished; and a
    scoring that was due and did not come to its end, however it was ended, is made up for, under
    its own iteration, before a resumed run goes on. On the main process ``write`` is called with
    the scores' names as soon as they are there: they may be replaced before a line of metrics.json
    is due. Comes after the hooks that hold state.
    """

    def __init__(self, *args: Any, folder: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._func = self._noting(self._func)
        self._names: list[str] = []
        self._marker = Path(folder, SCORING)
        self.write: Callable[[Collection[str]], None] | None = None

    def _noting(self, score: Callable[[], Mapping[str, Any]]) -> Callable[[], Mapping[str, Any]]:
        def scored() -> Mapping[str, Any]:
            results = score()
            self._names = list(flatten_results_dict(results or {}))
            return results

        return scored

    def before_train(self) -> None:
        """Do what is due of the iteration that the run goes on after."""
        trainer = self.trainer
        wanted = self._period > 0 and trainer.start_iter < trainer.max_iter
        if wanted and self._was_ended():
            logger.info(
                "The scoring of iteration %d did not come to its end, and is made up for "
                "(train.eval_period=0 leaves it out).",
                trainer.start_iter - 1,
            )
            trainer.iter = trainer.storage.iter = trainer.start_iter - 1
            self._do_eval()
            trainer.iter = trainer.storage.iter = trainer.start_iter

    def before_step(self) -> None:
        """Note that a scoring follows: a signal may end the run between the two."""
        done = self.trainer.iter + 1
        due = self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter
        if due and comm.is_main_process():
            replace_file(str(self._marker), str(self.trainer.iter))

    def after_train(self) -> None:
        """Score what has come to its end."""
        if sys.exc_info()[1] is None:
            # A run that had come to its end before has counted one iteration more.
            trainer = self.trainer
            trainer.storage.iter = max(trainer.start_iter, trainer.max_iter)
            super().after_train()

    def _was_ended(self) -> bool:
        """Whether a scoring of that iteration has begun and not come to its end."""
        begun = self._marker.read_text() if self._marker.is_file() else ""
        # Ranks need not see the folder as it was at one moment.
        return comm.all_gather(begun == str(self.trainer.start_iter - 1))[0]

    def _do_eval(self) -> None:
        if comm.is_main_process():
            replace_file(str(self._marker), str(self.trainer.storage.iter))
        super()._do_eval()
        if comm.is_main_process():
            if self.write is not None:
                self.write(self._names)
            self._marker.unlink(missing_ok=True)
