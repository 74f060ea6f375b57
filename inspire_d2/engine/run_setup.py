"""The log, seeds and settings of a run's process."""

import argparse
import copy
import logging

import torch
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..errors import InputError

__all__ = ["set_up_run"]


def set_up_run(cfg: DictConfig, args: argparse.Namespace) -> logging.Logger:
    """Do what Detectron2's default_setup does, but for its config.yaml; return our logger.

    It would replace a resumed run's config before it is known whether the run can go on, in place,
    so that a killed process leaves half a file, and with keys in another order, in which
    modules draw other random weights: see :func:`~inspire_d2.engine.config.save_config`.
    """
    rank = comm.get_rank()
    for name in ("fvcore", "detectron2", "inspire_d2"):
        try:
            setup_logger(cfg.train.output_dir, rank, name=name, configure_stdout=False)
        except OSError as error:
            raise InputError(f"the log cannot be written: {error}.") from error
    without_folder = copy.deepcopy(cfg)
    without_folder.train.output_dir = None
    # Not every default_setup reads it, and none takes None.
    precision = without_folder.train.pop("float32_precision", None)
    default_setup(without_folder, args)
    if precision:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"
    return setup_logger(distributed_rank=rank, name="inspire_d2")
