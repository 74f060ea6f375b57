"""The order of pixels and channels in memory that convolutions want.

The pyramid's own operations read all channels of a pixel, so its maps are channels last. So are
oneDNN's convolutions for AVX-512 and those of GPUs. For AVX2 the backward pass of 3x3 convolutions
takes much longer on such maps (docs/findings.md).

Shape shorthand in this module: N: images in the batch; c: channels; H, W: the map.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["as_channels_last", "channels_last_pays", "suit_convolutions"]

_ONLY_AVX2 = torch.backends.cpu.get_cpu_capability() == "AVX2"


def channels_last_pays(device: torch.device | str) -> bool:
    """Return whether channels-last maps make convolutions on a device no slower."""
    return torch.device(device).type != "cpu" or not _ONLY_AVX2


def suit_convolutions(x: torch.Tensor) -> torch.Tensor:
    """Return a map (N, c, H, W) in the order that 3x3 convolutions on its device want."""
    return x if channels_last_pays(x.device) else _reorder(x, torch.contiguous_format)


def as_channels_last(x: torch.Tensor) -> torch.Tensor:
    """Return a map (N, c, H, W) with each pixel's channels side by side in memory."""
    return _reorder(x, torch.channels_last)


def _reorder(x: torch.Tensor, order: torch.memory_format) -> torch.Tensor:
    if x.is_contiguous(memory_format=order):
        return x
    if x.device.type != "cpu" or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return x.contiguous(memory_format=order)
    return _Reordered.apply(x, order)


class _Reordered(torch.autograd.Function):
    """A copy in another order, whose gradient is channels last, as are the pyramid's maps.

    Else it would have the order of what comes after, and each of the pyramid's operations, which
    sees maps of both orders, would walk through one of them with strides.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, order: torch.memory_format) -> torch.Tensor:
        return _copy(x, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _copy(gradient, torch.channels_last), None


def _copy(x: torch.Tensor, order: torch.memory_format) -> torch.Tensor:
    """Copy a map to another order, image by image: PyTorch transposes matrices faster than maps."""
    pixels_first = order == torch.channels_last
    other = torch.contiguous_format if pixels_first else torch.channels_last
    if x.is_contiguous(memory_format=order) or not x.is_contiguous(memory_format=other):
        return x.contiguous(memory_format=order)
    out = torch.empty_like(x, memory_format=order)
    for source, target in zip(x, out, strict=True):
        matrices = [map_.flatten(1) for map_ in (source, target)]
        source, target = (m.t() if pixels_first else m for m in matrices)
        target.copy_(source)
    return out
