"""Reading a coarse map at the pixels of a fine one: bilinear up-sampling and shifting in one.

On a CPU a map is a table with a row of channels for each pixel, and a read is a weighted sum of
rows: PyTorch's ``embedding_bag``, which takes each row in one piece. ``grid_sample`` computes the
same but walks through the channels one by one, and takes many times as long there. Besides, rows
are counted in pixels, exactly, where ``grid_sample``'s coordinates are shares of the map's size.

On other devices a read is ``grid_sample``: a kernel forward and one backward, where the rows'
numbers, weights and sums take dozens, each of which the host must start.

Shape shorthand in this module:
    N: images in the batch; d: channels; K: pixels read for one;
    H, W: the fine map; h, w: the coarse map, h = ceil(H / 2), w = ceil(W / 2).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

__all__ = ["GridReads", "RowReads", "gather", "nearest_reads", "shifted_reads"]


class RowReads(NamedTuple):
    """For each fine pixel, the coarse pixels that it reads, and with which weights.

    rows: (N, H, W, K), int32; pixel (y, x) of image n is row (n h + y) w + x.
    weights: (N, H, W, K), at least float32.
    """

    rows: torch.Tensor
    weights: torch.Tensor

    def scaled(self, factor: torch.Tensor) -> "RowReads":
        """Multiply what is read for each pixel by a map of factors (N, 1, H, W)."""
        return RowReads(self.rows, self.weights * factor.permute(0, 2, 3, 1))


class GridReads(NamedTuple):
    """For each fine pixel, where it reads, as ``grid_sample`` counts: from -1 to 1.

    grid: (N, H, W, 2), x before y, at least float32.
    factor: (N, 1, H, W), or broadcast to it, by which what is read is multiplied.
    """

    grid: torch.Tensor
    factor: torch.Tensor

    def scaled(self, factor: torch.Tensor) -> "GridReads":
        """Multiply what is read for each pixel by a map of factors (N, 1, H, W)."""
        return GridReads(self.grid, self.factor * factor)


def gather(coarse: torch.Tensor, reads: RowReads | GridReads) -> torch.Tensor:
    """Read coarse (N, d, h, w): a map (N, d, H, W), channels last in memory."""
    if isinstance(reads, GridReads):
        return _sample(coarse, reads)
    table = coarse.permute(0, 2, 3, 1).reshape(-1, coarse.shape[1])
    per_read = reads.rows.shape[-1]
    rows = reads.rows.view(-1, per_read)
    weights = reads.weights.reshape(-1, per_read).to(table.dtype)
    if torch.onnx.is_in_onnx_export():  # ONNX has no such sum, but its parts
        read = sum(table[rows[:, k].long()] * weights[:, k, None] for k in range(per_read))
    else:
        read = F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
    return read.view(*reads.rows.shape[:3], coarse.shape[1]).permute(0, 3, 1, 2)


def _sample(coarse: torch.Tensor, reads: GridReads) -> torch.Tensor:
    # One dtype for both: half precision cannot tell the columns of a wide map apart. And the
    # kernel takes one channel's pixels side by side.
    wide = coarse.to(reads.grid.dtype, memory_format=torch.contiguous_format)
    read = F.grid_sample(wide, reads.grid, padding_mode="border", align_corners=False)
    # Before the product, whose backward pass keeps what was read.
    read = read.to(coarse.dtype, memory_format=torch.channels_last)
    return read * reads.factor.to(read.dtype)


def nearest_reads(coarse: torch.Tensor, fine: torch.Tensor) -> RowReads | GridReads:
    """FPN's up-sampling: each fine pixel (N, ., H, W) reads its nearest coarse one."""
    if not _by_rows(coarse):
        grid = _centres(coarse, fine.shape, torch.promote_types(fine.dtype, torch.float32))
        return GridReads(grid.expand(len(fine), -1, -1, -1), grid.new_ones(1, 1, 1, 1))
    y, x = _nearest(fine)
    rows = _rows(coarse, y.expand(len(fine), *fine.shape[2:]), x)[..., None]
    return RowReads(rows, torch.ones_like(rows, dtype=torch.float32))


def shifted_reads(coarse: torch.Tensor, flow: torch.Tensor) -> RowReads | GridReads:
    """Each fine pixel reads bilinearly at its nearest coarse pixel's centre + its offset.

    flow is (N, 2, H, W), x before y, in coarse pixels; reads beyond the border see the border.
    """
    return (_shifted_rows if _by_rows(coarse) else _shifted_grid)(coarse, flow)


def _by_rows(coarse: torch.Tensor) -> bool:
    """Return whether reads of a map are of rows; an exported graph is the same from any device."""
    return coarse.device.type == "cpu" or torch.onnx.is_in_onnx_export()


def _shifted_grid(coarse: torch.Tensor, flow: torch.Tensor) -> GridReads:
    height, width = coarse.shape[2:]
    centres = _centres(coarse, flow.shape, flow.dtype)
    # Made on the device: a list would have to be copied there.
    pixel = torch.linspace(2 / width, 2 / height, 2, dtype=flow.dtype, device=flow.device)
    grid = torch.addcmul(centres, flow.permute(0, 2, 3, 1), pixel)
    # Where an offset is NaN, grid_sample reads some pixel: the loss must be NaN too, and tell.
    wrong = flow.isnan().any(dim=1, keepdim=True)
    factor = torch.ones_like(wrong, dtype=flow.dtype).masked_fill(wrong, torch.nan)
    return GridReads(grid, factor)


def _shifted_rows(coarse: torch.Tensor, flow: torch.Tensor) -> RowReads:
    height, width = coarse.shape[2:]
    y, x = _nearest(flow)
    shift_x, shift_y = flow.unbind(dim=1)
    y, x = (y + shift_y).clamp(0, height - 1), (x + shift_x).clamp(0, width - 1)
    # The floor, as nothing is negative; where an offset is NaN, a row that exists: the loss, NaN
    # too, says what is wrong.
    top, left = (part.detach().nan_to_num().int() for part in (y, x))
    down, across = y - top, x - left
    row = _rows(coarse, top, left)
    # At the last row and column the neighbour beyond, which has weight 0, is the border itself.
    right, below = left < width - 1, (top < height - 1) * width
    rows = torch.stack([row, row + right, row + below, row + below + right], dim=-1)
    vertical = torch.stack([1 - down, down], dim=-1)
    horizontal = torch.stack([1 - across, across], dim=-1)
    return RowReads(rows, (vertical[..., None] * horizontal[..., None, :]).flatten(-2))


def _centres(coarse: torch.Tensor, fine: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """The nearest coarse pixel's centre, of each fine pixel: (H, W, 2), x before y, -1 to 1."""
    y, x = (
        torch.linspace(
            1 / n - 1, 1 - 1 / n, n, dtype=dtype, device=coarse.device
        ).repeat_interleave(2)[:size]
        for n, size in zip(coarse.shape[2:], fine[2:], strict=True)
    )
    return torch.stack(torch.broadcast_tensors(x, y[:, None]), dim=-1)


def _nearest(fine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coarse row (H, 1) and column (W,) of each fine pixel, int32."""
    y, x = (torch.arange(n, dtype=torch.int32, device=fine.device) // 2 for n in fine.shape[2:])
    return y[:, None], x


def _rows(coarse: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Number the pixels (y, x), int32, each (N, H, W) or broadcast to it, among the batch's."""
    batch, _, height, width = coarse.shape
    first = torch.arange(0, batch * height, height, dtype=torch.int32, device=coarse.device)
    return (first[:, None, None] + y) * width + x
