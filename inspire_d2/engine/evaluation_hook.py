"""When a run is scored: every so often, at its end, and after a resume where that is still due."""

import logging
import sys
from pathlib import Path
from typing import Any

from detectron2.engine import hooks
from detectron2.utils import comm

from .checkpoint_files import replace_file

__all__ = ["EvaluationHook"]

logger = logging.getLogger(__name__)

# In the run's folder while it is scored, with the iteration.
SCORING = ".scoring"


class EvaluationHook(hooks.EvalHook):
    """Score every ``eval_period`` iterations and at the end, as Detectron2's EvalHook.

    Besides: a training that fails in its last iteration is not scored as if it had finished, and a
    scoring that did not come to its end, however it was ended, is made up for, under its own
    iteration, before a resumed run goes on. Comes after the hooks that hold state.
    """

    def __init__(self, *args: Any, folder: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._marker = Path(folder, SCORING)

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
            self._marker.unlink(missing_ok=True)
