"""How the processes of a run are to meet: ``train.dist``."""

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError

__all__ = ["backend_of", "check_dist", "dist_options", "on_cpu"]


def check_dist(cfg: DictConfig) -> None:
    """Raise InputError where ``train.dist`` is wrong on any machine."""
    dist = dist_options(cfg)
    if dist.backend not in (None, "nccl", "gloo"):
        raise InputError(f"train.dist.backend={dist.backend}: not one of nccl, gloo, null.")
    if dist.port is not None and not (type(dist.port) is int and 1 <= dist.port <= 65535):
        raise InputError(f"train.dist.port={dist.port}: not within 1..65535.")
    if not (isinstance(dist.timeout_s, int | float) and dist.timeout_s > 0):
        raise InputError(f"train.dist.timeout_s={dist.timeout_s}: not above 0.")
    if dist.backend == "nccl" and on_cpu(cfg):
        raise InputError("train.dist.backend=nccl is for GPUs, not for train.device=cpu.")


def dist_options(cfg: DictConfig) -> DictConfig:
    """Return ``train.dist``, with defaults for what configs saved before it was there lack."""
    defaults = OmegaConf.create({"port": None, "backend": None, "timeout_s": 1800})
    return OmegaConf.merge(defaults, cfg.train.get("dist") or {})


def on_cpu(cfg: DictConfig) -> bool:
    """Return whether ``train.device`` asks for the CPU, whatever the machine has."""
    device = cfg.train.get("device")
    return bool(device) and torch.device(device).type == "cpu"


def backend_of(cfg: DictConfig) -> str | None:
    """Return the backend to take, None for Detectron2's choice: nccl where there is a GPU."""
    return dist_options(cfg).backend or ("gloo" if on_cpu(cfg) else None)
