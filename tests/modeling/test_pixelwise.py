"""Products and weighted sums pixel by pixel, against PyTorch's plain operations."""

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from inspire_d2.modeling.pixelwise import PixelwiseConv2d, add_weighted, pixelwise_order, project

from .helpers import assert_close, image

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 5, 4, 6), (1, 5, 1, 1), (1, 1, 3, 4)])
def test_project_is_a_matrix_at_every_pixel(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    x = image(*shape, seed=1).to(memory_format=layout)
    onto = image(shape[0], 7, *shape[2:], seed=2).to(memory_format=layout)
    weight = image(shape[0], 7, shape[1], seed=3)
    expected = torch.einsum("ndc,nchw->ndhw", weight, x)
    assert_close(project(weight, x), expected, 1e-6)
    assert_close(project(weight, x, onto), onto + expected, 1e-6)
    same = torch.einsum("dc,nchw->ndhw", weight[0], x)
    assert_close(project(weight[0], x), same, 1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("like", LAYOUTS)
def test_a_projection_and_its_gradients_lie_in_memory_as_asked(
    layout: torch.memory_format, like: torch.memory_format
) -> None:
    x = image(2, 5, 4, 6, seed=1).to(memory_format=layout)
    model = image(2, 7, 4, 6, seed=2).to(memory_format=like)
    weight, bias, toward = image(7, 5, seed=3), image(7, seed=4), image(2, 7, 4, 6, seed=5)
    inputs = [t.requires_grad_() for t in (weight, x, bias)]
    out = project(weight, x, bias, like=model)
    expected = torch.einsum("dc,nchw->ndhw", weight, x) + bias[:, None, None]
    assert out.is_contiguous(memory_format=like)
    assert_close(out, expected, 1e-6)
    ours, theirs = (torch.autograd.grad((y * toward).sum(), inputs) for y in (out, expected))
    assert ours[1].is_contiguous(memory_format=layout)
    for mine, plain in zip(ours, theirs, strict=True):
        assert_close(mine, plain, 1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_project_gradients(layout: torch.memory_format) -> None:
    shapes = ((2, 3, 4), (2, 4, 2, 3), (2, 3, 2, 3))
    inputs = [image(*s, seed=i, dtype=torch.float64) for i, s in enumerate(shapes)]
    inputs[1] = inputs[1].to(memory_format=layout)
    assert torch.autograd.gradcheck(project, [t.requires_grad_() for t in inputs])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("norm", [None, nn.GroupNorm(2, 8), FrozenBatchNorm2d(8)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_pixelwise_convolution_is_the_convolution(
    bias: bool, norm: nn.Module | None, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = Conv2d(5, 8, 1, bias=bias, norm=norm)
    x = image(2, 5, 4, 6, seed=1).to(memory_format=layout).requires_grad_()
    toward = image(2, 8, 4, 6, seed=2)
    inputs = [x, *conv.parameters()]
    results = []
    pixelwise = PixelwiseConv2d.of(conv)
    assert list(pixelwise.state_dict()) == list(conv.state_dict())
    for out in (pixelwise(x), conv(x)):
        results.append((out, *torch.autograd.grad((out * toward).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, 1e-5)
    if norm is None:
        assert pixelwise(x).is_contiguous(memory_format=torch.channels_last)


def test_a_map_that_products_read_as_it_is_is_not_copied() -> None:
    x = image(2, 5, 4, 6)
    assert pixelwise_order(x) is x
    last = x.to(memory_format=torch.channels_last)
    assert pixelwise_order(last) is last
    for changed in (x.bfloat16(), x[..., ::2]):
        assert pixelwise_order(changed).is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pixelwise_order(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 32, 70])
def test_add_weighted_is_the_sum(channels: int, layout: torch.memory_format) -> None:
    x, y = (image(2, channels, 3, 4, seed=s).to(memory_format=layout) for s in (1, 2))
    weight, toward = image(2, 1, 3, 4, seed=3), image(2, channels, 3, 4, seed=4)
    inputs = [t.requires_grad_() for t in (x, weight, y)]
    results = []
    for out in (add_weighted(x, weight, y), x + weight * y):
        results.append((out, *torch.autograd.grad((out * toward).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs, 1e-6)


def test_add_weighted_gradients() -> None:
    inputs = [image(*s, seed=i, dtype=torch.float64).requires_grad_()
              for i, s in enumerate(((1, 3, 2, 2), (1, 1, 2, 2), (1, 3, 2, 2)))]  # fmt: skip
    assert torch.autograd.gradcheck(add_weighted, inputs)


def test_add_weighted_gives_frozen_inputs_nothing() -> None:
    x, weight, y = (image(1, c, 2, 2, seed=c) for c in (3, 1, 3))
    weight.requires_grad_()
    add_weighted(x, weight, y).sum().backward()
    assert x.grad is None
    assert y.grad is None
    assert_close(weight.grad, y.sum(dim=1, keepdim=True), 1e-6)
