"""A run's model, ready to predict."""

import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from ..errors import InputError, first_few
from ..model_zoo import find_config
from .build import build
from .checkpoint import ReportingCheckpointer
from .checkpoint_files import newest_checkpoint
from .config import is_overridden, load_config
from .device import resolve_device

__all__ = ["load_trained"]

CONFIG = "config.yaml"


def load_trained(
    run: Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: str | Path | None = None,
    device: str | None = None,
) -> tuple[DictConfig, nn.Module]:
    """Return the config of a run of train_net.py and its model in eval mode, on its device.

    Args:
        run: the run's folder, with config.yaml and a checkpoint, of which the newest is taken; or
            any config file, also by the name of one that comes along, with ``checkpoint``.
        overrides: ``key=value``; ``train.init_checkpoint=FILE`` takes that checkpoint,
            ``train.device=cpu`` that device.
        checkpoint: a file, or an address that Detectron2 knows, instead of the newest.
        device: instead of the config's.

    Raises:
        InputError: there is no such run or checkpoint, it does not fit or holds weights that are
            not finite, or an override is wrong.
    """
    cfg = load_config(str(_config_of(run)), overrides)
    if is_overridden("train.init_checkpoint", overrides):
        checkpoint = checkpoint or cfg.train.init_checkpoint
        if not checkpoint:
            raise InputError("train.init_checkpoint names no file: leave it out for the newest.")
    if run.is_dir() or run.name == CONFIG:
        # where it is now, which need not be where it was trained
        cfg.train.output_dir = str(run if run.is_dir() else run.parent)
        checkpoint = checkpoint or newest_checkpoint(cfg.train.output_dir)
    path = str(checkpoint or "")
    if not path:
        raise InputError(f"{run} has no checkpoint of its own: name one.")
    if "://" not in path and not Path(path).is_file():
        raise InputError(f"checkpoint {path} does not exist.")
    cfg.train.device = resolve_device(device or cfg.train.device)
    model = build(cfg.model, "model").to(cfg.train.device).eval()
    ReportingCheckpointer(model, allow_partial=None, complete=True).load(path)
    _check_finite(model, path)
    return cfg, model


def _config_of(run: Path) -> Path:
    """Return the config file of a run's folder, or the file itself."""
    run = Path(find_config(str(run)))
    if not os.path.exists(run):  # unlike Path, of a name too long as well
        raise InputError(
            f"{run} does not exist: name the output folder of a run of train_net.py, or a config "
            "file."
        )
    if not run.is_dir():
        return run
    if not (run / CONFIG).is_file():
        raise InputError(f"{run} holds no {CONFIG}: it is no output folder of train_net.py.")
    return run / CONFIG


def _check_finite(model: nn.Module, path: str) -> None:
    """Raise InputError where a weight is NaN or infinite: whatever it predicts would mislead."""
    state = model.state_dict()
    wrong = [
        key for key, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())
    ]
    if wrong:
        raise InputError(
            f"checkpoint {path} holds {len(wrong)} tensors that are not finite "
            f"({first_few(wrong, 3)}): it is of a training that diverged, name an earlier one."
        )
