"""Reading a coarse map by rows and by PyTorch's grid_sample, against each other."""

import pytest
import torch
import torch.nn.functional as F

from inspire_d2.modeling import gather as module
from inspire_d2.modeling.gather import GridReads, gather, nearest_reads, shifted_reads

from .helpers import assert_close, image

# A coarse map, and the fine one on it, also with odd sizes.
SIZES = [((3, 4), (6, 8)), ((4, 3), (7, 5)), ((1, 2), (1, 4)), ((2, 1), (3, 1))]


def by_grid_sample(coarse: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The same read by PyTorch, in shares of the map's size."""
    height, width = flow.shape[2:]
    y = torch.arange(height)[:, None] // 2 + flow[:, 1]
    x = torch.arange(width) // 2 + flow[:, 0]
    h, w = coarse.shape[2:]
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)
    return F.grid_sample(coarse, grid, padding_mode="border", align_corners=False)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("small", "large"), SIZES)
def test_shifted_reads_are_grid_sample(
    small: tuple[int, int], large: tuple[int, int], batch: int
) -> None:
    coarse = image(batch, 5, *small, seed=1, dtype=torch.float64).requires_grad_()
    flow = 1.5 * image(batch, 2, *large, seed=2, dtype=torch.float64)
    flow.requires_grad_()
    toward = image(batch, 5, *large, seed=3, dtype=torch.float64)
    results = []
    for out in (gather(coarse, shifted_reads(coarse, flow)), by_grid_sample(coarse, flow)):
        results.append((out, *torch.autograd.grad((out * toward).sum(), (coarse, flow))))
    for ours, theirs in zip(*results, strict=True):
        if theirs.any():
            assert_close(ours, theirs)
        else:
            assert not ours.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("small", "large"), SIZES)
def test_other_devices_read_the_same(
    small: tuple[int, int],
    large: tuple[int, int],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coarse = image(2, 5, *small, seed=1).to(dtype)
    flow = 1.5 * image(2, 2, *large, seed=2)
    rows = [
        gather(coarse, shifted_reads(coarse, flow)),
        gather(coarse, nearest_reads(coarse, flow)),
    ]
    monkeypatch.setattr(module, "_by_rows", lambda _: False)
    for reads, expected in zip(
        (shifted_reads(coarse, flow), nearest_reads(coarse, flow)), rows, strict=True
    ):
        assert isinstance(reads, GridReads) and reads.grid.dtype == torch.float32
        read = gather(coarse, reads)
        assert read.dtype == dtype
        assert read.is_contiguous(memory_format=torch.channels_last)
        assert_close(read.float(), expected.float(), 1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize(("small", "large"), SIZES)
def test_nearest_reads_are_nearest(small: tuple[int, int], large: tuple[int, int]) -> None:
    coarse = image(2, 3, *small)
    fine = torch.zeros(2, 1, *large)
    expected = F.interpolate(coarse, scale_factor=2.0)[:, :, : large[0], : large[1]]
    assert torch.equal(gather(coarse, nearest_reads(coarse, fine)), expected)
    no_flow = torch.zeros(2, 2, *large)
    assert torch.equal(gather(coarse, shifted_reads(coarse, no_flow)), expected)


@pytest.mark.parametrize("by_rows", [True, False])
def test_factors_scale_what_is_read(by_rows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_by_rows", lambda _: by_rows)
    coarse, factor = image(2, 3, 3, 4, seed=1), image(2, 1, 6, 8, seed=2)
    reads = shifted_reads(coarse, image(2, 2, 6, 8, seed=3))
    assert_close(gather(coarse, reads.scaled(factor)), factor * gather(coarse, reads), 1e-6)


@pytest.mark.parametrize("by_rows", [True, False])
def test_reads_of_half_precision_keep_no_wide_fine_map(
    by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_by_rows", lambda _: by_rows)
    coarse = image(2, 32, 4, 5, seed=1).bfloat16().requires_grad_()
    flow, factor = image(2, 2, 8, 10, seed=2), image(2, 1, 8, 10, seed=3).requires_grad_()
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        gather(coarse, shifted_reads(coarse, flow).scaled(factor))
    assert kept
    fine = 2 * 32 * 8 * 10
    assert not [x.shape for x in kept if x.numel() >= fine and x.dtype == torch.float32]


def test_wide_maps_are_read_exactly() -> None:
    # Shares of the size in float32 cannot tell thousands of columns apart to a hundredth.
    coarse = torch.arange(5000.0).view(1, 1, 1, -1).repeat(1, 1, 2, 1)
    flow = torch.zeros(1, 2, 4, 10000)
    flow[:, 0] = 0.25
    read = gather(coarse, shifted_reads(coarse, flow))
    expected = (torch.arange(10000) // 2 + 0.25).clamp(max=4999)
    assert torch.equal(read[0, 0, 0], expected)


@pytest.mark.parametrize("by_rows", [True, False])
def test_an_offset_that_is_nan_shows_in_its_pixel_alone(
    by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_by_rows", lambda _: by_rows)
    # A diverged model must come as far as its loss, which is what tells the user.
    coarse, flow = image(2, 3, 3, 4), torch.zeros(2, 2, 6, 8)
    flow[1, 0, 2, 5] = float("nan")
    read = gather(coarse, shifted_reads(coarse, flow))
    wrong = torch.zeros(2, 6, 8, dtype=torch.bool)
    wrong[1, 2, 5] = True
    assert torch.equal(read.isnan(), wrong[:, None].expand(read.shape))
