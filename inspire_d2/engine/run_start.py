"""What a run starts from, and the folder that it writes to."""

import os
from collections.abc import Sequence

from omegaconf import DictConfig

from ..errors import InputError
from .checkpoint_files import holds_checkpoints, newest_checkpoint
from .config import is_overridden

__all__ = ["check_output_dir", "check_resume", "find_checkpoint"]


def check_output_dir(output_dir: str, *, resume: bool) -> None:
    """Raise InputError if a run cannot write to its folder, or would write over another run's."""
    if not resume and holds_checkpoints(output_dir):
        raise InputError(
            f"{output_dir} holds the checkpoints of a run: pass --resume to go on with it, or "
            "another train.output_dir."
        )
    try:
        os.makedirs(output_dir, exist_ok=True)
    except OSError as error:
        raise InputError(f"train.output_dir={output_dir}: {error.strerror}.") from error
    if not os.access(output_dir, os.W_OK):
        raise InputError(f"train.output_dir={output_dir} cannot be written to.")


def check_resume(cfg: DictConfig, config_file: str, overrides: Sequence[str]) -> None:
    """Raise InputError where ``--resume`` would begin anew beside the run that a config is of.

    Such a run has been moved: its config still names the folder where it was.
    """
    output_dir, here = cfg.train.output_dir, os.path.dirname(config_file) or "."
    if is_overridden("train.output_dir", overrides) or holds_checkpoints(output_dir):
        return
    if holds_checkpoints(here):
        raise InputError(
            f"--resume: {output_dir}, the train.output_dir of {config_file}, holds no checkpoint, "
            f"but {here} does: add train.output_dir={here} to go on there."
        )


def find_checkpoint(cfg: DictConfig, *, eval_only: bool, resume: bool, named: bool) -> str:
    """Return the path of the checkpoint that a run starts from; "" to start from nothing.

    To score, that is the one ``named`` on the command line, else the run's last: never the
    config's own, which holds what training starts from.

    Raises:
        InputError: it is not there, or there is none to score.
    """
    run_dir, path = cfg.train.output_dir, cfg.train.init_checkpoint or ""
    if eval_only and named and not path:
        raise InputError(
            "--eval-only: train.init_checkpoint names no file; leave it out to score the last "
            f"checkpoint of {run_dir}."
        )
    wanted = not named if eval_only else resume
    last = newest_checkpoint(run_dir) if wanted else ""
    if eval_only and not named and not last:
        raise InputError(
            f"--eval-only: {run_dir} holds no checkpoint; name one with "
            "train.init_checkpoint=FILE, or the run's folder with train.output_dir=RUN."
        )
    path = last or path
    # What has a scheme (detectron2://, https://) is fetched by Detectron2 when it is loaded.
    if path and "://" not in path and not os.path.isfile(path):
        raise InputError(
            f"checkpoint {path} does not exist; name another with train.init_checkpoint=FILE "
            "(README.md says how to make ImageNet's)."
        )
    return path
