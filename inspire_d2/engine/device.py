"""The device that a run or a model is on."""

import torch

from ..errors import InputError

__all__ = ["parse_device", "resolve_device"]


def resolve_device(name: str | None) -> str:
    """Return the device to run on: ``name``, or the GPU if there is one, else the CPU.

    Raises:
        InputError: ``name`` is no device, or a GPU that is not there.
    """
    device = parse_device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"train.device={name}: this machine has no GPU that PyTorch can use.")
        if device.index is not None and device.index >= torch.cuda.device_count():
            last = torch.cuda.device_count() - 1
            raise InputError(f"train.device={name}: this machine's last GPU is cuda:{last}.")
    return str(device)


def parse_device(name: str, processes: int = 1) -> torch.device:
    """Return a device, which this machine need not have.

    Raises:
        InputError: it is none, or one GPU for several ``processes`` of a machine.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"train.device={name}: not a device; use cpu or cuda.")
    if device.type == "cuda" and device.index is not None and processes > 1:
        raise InputError(
            f"train.device={name} is one GPU for {processes} processes, which need one each: set "
            "train.device=cuda."
        )
    return device
