"""Reading a coarse map at the pixels of a fine one: bilinear up-sampling and shifting in one.

A map is a table with a row of channels for each pixel, and a read is a weighted sum of rows:
PyTorch's ``embedding_bag``, which takes each row in one piece. ``grid_sample`` computes the same
but walks through the channels one by one; on a CPU it takes many times as long. Besides, rows are
counted in pixels, exactly, where ``grid_sample``'s coordinates are shares of the map's size.

Shape shorthand in this module:
    N: images in the batch; d: channels; K: pixels read for one;
    H, W: the fine map; h, w: the coarse map, h = ceil(H / 2), w = ceil(W / 2).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

__all__ = ["Reads", "gather", "nearest_reads", "shifted_reads"]


class Reads(NamedTuple):
    """For each fine pixel, the coarse pixels that it reads, and with which weights.

    rows: (N, H, W, K), int32; pixel (y, x) of image n is row (n h + y) w + x.
    weights: (N, H, W, K), at least float32.
    """

    rows: torch.Tensor
    weights: torch.Tensor

    def scaled(self, factor: torch.Tensor) -> "Reads":
        """Multiply what is read for each pixel by a map of factors (N, 1, H, W)."""
        return Reads(self.rows, self.weights * factor.permute(0, 2, 3, 1))


def gather(coarse: torch.Tensor, reads: Reads) -> torch.Tensor:
    """Read coarse (N, d, h, w): a map (N, d, H, W), channels last in memory."""
    table = coarse.permute(0, 2, 3, 1).reshape(-1, coarse.shape[1])
    per_read = reads.rows.shape[-1]
    rows = reads.rows.view(-1, per_read)
    weights = reads.weights.reshape(-1, per_read).to(table.dtype)
    if torch.onnx.is_in_onnx_export():  # ONNX has no such sum, but its parts
        read = sum(table[rows[:, k].long()] * weights[:, k, None] for k in range(per_read))
    else:
        read = F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
    return read.view(*reads.rows.shape[:3], -1).permute(0, 3, 1, 2)


def nearest_reads(coarse: torch.Tensor, fine: torch.Tensor) -> Reads:
    """FPN's up-sampling: each fine pixel (N, ., H, W) reads its nearest coarse one."""
    y, x = _nearest(fine)
    rows = _rows(coarse, y.expand(len(fine), *fine.shape[2:]), x)[..., None]
    return Reads(rows, torch.ones_like(rows, dtype=torch.float32))


def shifted_reads(coarse: torch.Tensor, flow: torch.Tensor) -> Reads:
    """Each fine pixel reads bilinearly at its nearest coarse pixel's centre + its offset.

    flow is (N, 2, H, W), x before y, in coarse pixels; reads beyond the border see the border.
    """
    height, width = coarse.shape[2:]
    y, x = _nearest(flow)
    y = (y + flow[:, 1]).clamp(0, height - 1)
    x = (x + flow[:, 0]).clamp(0, width - 1)
    top, left = y.detach().floor(), x.detach().floor()
    # At the last row and column the neighbour beyond, which has weight 0, is the border itself.
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = y - top, x - left
    rows = [
        _rows(coarse, v, u) for v, u in ((top, left), (top, right), (bottom, left), (bottom, right))
    ]
    up, back = 1 - down, 1 - across
    weights = [up * back, up * across, down * back, down * across]
    return Reads(torch.stack(rows, dim=-1), torch.stack(weights, dim=-1))


def _nearest(fine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coarse row (H, 1) and column (W,) of each fine pixel."""
    y = torch.arange(fine.shape[2], device=fine.device).div(2, rounding_mode="floor")
    x = torch.arange(fine.shape[3], device=fine.device).div(2, rounding_mode="floor")
    return y[:, None], x


def _rows(coarse: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Number the pixels (y, x), each (N, H, W) or broadcast to it, among all of the batch."""
    batch, _, height, width = coarse.shape
    first = torch.arange(batch, device=coarse.device)[:, None, None] * height
    return ((first + y.long()) * width + x.long()).int()
