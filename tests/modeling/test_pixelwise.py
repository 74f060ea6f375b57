"""Products and weighted sums pixel by pixel, against PyTorch's plain operations."""

import pytest
import torch

from inspire_d2.modeling.pixelwise import add_weighted, project

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
