"""What the pyramid does pixel by pixel, without temporary maps: products, sums and dot products.

On a CPU a map of 256 channels at stride 4 does not fit the caches, and memory that is fresh costs
more than the arithmetic done in it.

Shape shorthand in this module:
    N: images in the batch; c: channels in; d: channels out; H, W: the map.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["add_weighted", "as_rows", "project"]

DOT_CHUNK = 32  # channels multiplied at a time, so that their product stays in the caches


def project(
    weight: torch.Tensor, x: torch.Tensor, onto: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply each image's matrix (N, d, c) to every pixel of x (N, c, H, W): (N, d, H, W).

    ``onto`` (N, d, H, W) is added in the same product. The result is channels last in memory; so
    x and ``onto`` should be, or they are copied.
    """
    batch, _, height, width = x.shape
    weight = weight.to(x.dtype).expand(batch, -1, -1).transpose(1, 2)
    rows = as_rows(x)
    out = torch.bmm(rows, weight) if onto is None else torch.baddbmm(as_rows(onto), rows, weight)
    return out.view(batch, height, width, out.shape[2]).permute(0, 3, 1, 2)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """View a map (N, c, H, W) that is channels last in memory as (N, H W, c)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def add_weighted(x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Compute x + weight * y for maps x, y (N, d, H, W) and a weight (N, 1, H, W)."""
    if torch.jit.is_tracing():  # an exported graph has no functions of Python
        return torch.addcmul(x, weight, y)
    return _AddWeighted.apply(x, weight, y)


class _AddWeighted(torch.autograd.Function):
    """``addcmul``, whose own backward makes three maps where one will do."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, y)
        return torch.addcmul(x, weight, y)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        weight, y = ctx.saved_tensors
        _, for_weight, for_y = ctx.needs_input_grad
        dot = _channel_dot(gradient, y) if for_weight else None
        return gradient, dot, gradient * weight if for_y else None


def _channel_dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sum x * y over the channels: (N, 1, H, W), in the precision of x."""
    wide = torch.promote_types(x.dtype, torch.float32)
    # Elsewhere the starts of many small kernels would take longer than one product does.
    chunk = DOT_CHUNK if x.device.type == "cpu" else x.shape[1]
    dot = sum(
        (a * b).sum(dim=1, keepdim=True, dtype=wide)
        for a, b in zip(x.split(chunk, dim=1), y.split(chunk, dim=1), strict=True)
    )
    return dot.to(x.dtype)
