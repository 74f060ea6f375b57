"""A run's model, ready to predict."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from .checkpoint import ReportingCheckpointer
from .checks import find_checkpoint
from .config import load_config
from .launch import resolve_device

__all__ = ["load_trained"]


def load_trained(run: Path, overrides: Sequence[str] = ()) -> tuple[DictConfig, nn.Module]:
    """Return the config of a run of train_net.py and its model in eval mode, on its device.

    Args:
        run: the run's folder, with config.yaml and a checkpoint, of which the newest is taken.
        overrides: ``key=value``; ``train.init_checkpoint=FILE`` takes that checkpoint,
            ``train.device=cpu`` that device.

    Raises:
        InputError: there is no such run or checkpoint, it does not fit, or an override is wrong.
    """
    cfg = load_config(str(run / "config.yaml"), [f"train.output_dir={run}", *overrides])
    named = any(override.startswith("train.init_checkpoint=") for override in overrides)
    checkpoint = find_checkpoint(cfg, eval_only=True, resume=False, named=named)
    cfg.train.device = resolve_device(cfg.train.device)
    model = instantiate(cfg.model).to(cfg.train.device).eval()
    ReportingCheckpointer(model, complete=True).load(checkpoint)
    return cfg, model
