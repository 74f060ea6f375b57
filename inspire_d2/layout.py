"""The order of pixels and channels in memory that convolutions want.

The pyramid's own operations read all channels of a pixel, so its maps are channels last. So are
oneDNN's convolutions for AVX-512 and those of GPUs. For AVX2 the backward pass of 3x3 convolutions
takes much longer on such maps (docs/findings.md).
"""

import torch

__all__ = ["channels_last_pays", "suit_convolutions"]

_ONLY_AVX2 = torch.backends.cpu.get_cpu_capability() == "AVX2"


def channels_last_pays(device: torch.device | str) -> bool:
    """Return whether channels-last maps make convolutions on a device no slower."""
    return torch.device(device).type != "cpu" or not _ONLY_AVX2


def suit_convolutions(x: torch.Tensor) -> torch.Tensor:
    """Return a map (N, c, H, W) in the order that 3x3 convolutions on its device want."""
    return x if channels_last_pays(x.device) else x.contiguous()
