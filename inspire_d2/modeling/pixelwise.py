"""What the pyramid does pixel by pixel, without temporary maps: products, sums and dot products.

On a CPU a map of 256 channels at stride 4 does not fit the caches, and memory that is fresh costs
more than the arithmetic done in it.

Shape shorthand in this module:
    N: images in the batch; c: channels in; d: channels out; H, W: the map.
"""

from typing import Any

import torch
from detectron2.layers import Conv2d
from torch.autograd.function import once_differentiable

from ..layout import as_channels_last

__all__ = ["PixelwiseConv2d", "add_weighted", "as_rows", "pixelwise_order", "project"]

DOT_CHUNK = 32  # channels multiplied at a time, so that their product stays in the caches


def pixelwise_order(x: torch.Tensor) -> torch.Tensor:
    """Return a map (N, c, H, W) in an order in memory in which ``project`` reads it.

    A CPU's matrix product reads the usual order as fast as channels last, and a copy would take
    about as long as the product itself. Elsewhere maps become channels last.
    """
    return x if _multiplies(x) and x.is_contiguous() else as_channels_last(x)


class PixelwiseConv2d(Conv2d):
    """Detectron2's Conv2d for 1x1 kernels: a map (N, c, H, W) to (N, d, H, W), channels last.

    A CPU's convolution of a map in the usual order takes twice the time of the product that it is.
    """

    @classmethod
    def of(cls, conv: Conv2d) -> "PixelwiseConv2d":
        """Return a 1x1 convolution with the parameters, the norm and the activation of another."""
        own = cls(conv.in_channels, conv.out_channels, 1, device="meta")
        own.weight, own.bias = conv.weight, conv.bias
        own.norm, own.activation = conv.norm, conv.activation
        return own

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = pixelwise_order(x)
        if not _multiplies(x) or x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        out = project(self.weight.flatten(1), x, self.bias)
        for after in (self.norm, self.activation):
            out = out if after is None else after(out)
        return out


def project(
    weight: torch.Tensor,
    x: torch.Tensor,
    onto: torch.Tensor | None = None,
    like: torch.Tensor | None = None,
) -> torch.Tensor:
    """Apply each image's matrix (N, d, c) to every pixel of x (N, c, H, W): (N, d, H, W).

    ``onto``, (N, d, H, W) or (d,), is added in the same product. The result is channels last in
    memory, or has the order of the map ``like``; a gradient of x has the order of x.
    """
    batch, _, height, width = x.shape
    weight = weight.to(x.dtype).expand(batch, -1, -1).transpose(1, 2)
    if onto is not None:
        onto = as_rows(onto) if onto.dim() == 4 else onto.to(x.dtype).expand(batch, 1, -1)
    channels_first = like is not None and not like.is_contiguous(memory_format=torch.channels_last)
    # A traced graph has no functions of Python.
    product = _Product.apply if _multiplies(x) and not torch.jit.is_tracing() else _product
    out = product(as_rows(x), weight, onto, channels_first)
    return out.view(batch, height, width, out.shape[2]).permute(0, 3, 1, 2)


def _multiplies(x: torch.Tensor) -> bool:
    """Return whether maps like this are multiplied in any order: a CPU's, in full precision.

    Not in graphs that are compiled or go to ONNX, whose own kernels convolve.
    """
    full = x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    elsewhere = torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
    return x.device.type == "cpu" and full and not elsewhere


def _product(
    rows: torch.Tensor, weight: torch.Tensor, onto: torch.Tensor | None, channels_first: bool
) -> torch.Tensor:
    """Multiply (N, H W, c) by (N, c, d), to lie in memory by pixels or by channels."""
    if channels_first:
        rows, weight = weight.transpose(1, 2), rows.transpose(1, 2)
        onto = None if onto is None else onto.transpose(1, 2)
    out = torch.bmm(rows, weight) if onto is None else torch.baddbmm(onto, rows, weight)
    return out.transpose(1, 2) if channels_first else out


class _Product(torch.autograd.Function):
    """The product, whose gradient for rows that are a transposed matrix is one, too.

    So what made a map in the usual order gets a gradient in that order, without a copy.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        weight: torch.Tensor,
        onto: torch.Tensor | None,
        channels_first: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.onto = None if onto is None else onto.shape
        return _product(rows, weight, onto, channels_first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        for_rows = for_weight = for_onto = None
        if ctx.needs_input_grad[0]:
            by_channels = rows.stride(2) != 1
            for_rows = _product(gradient, weight.transpose(1, 2), None, by_channels)
        if ctx.needs_input_grad[1]:
            for_weight = torch.bmm(rows.transpose(1, 2), gradient)
        if ctx.needs_input_grad[2]:
            for_onto = gradient.sum_to_size(ctx.onto)
        return for_rows, for_weight, for_onto, None


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """View a map (N, c, H, W), of either order in memory, as a matrix per image, (N, H W, c)."""
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
