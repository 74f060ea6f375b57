"""ISA's parts: adaptive fusion and the three alignments."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from inspire_d2.modeling import AdaptiveFusion, DeformAlign, FlowAlign, UpsampleAlign
from inspire_d2.modeling.isa import GAIN

from . import reference
from .helpers import arrays, assert_close, gradients_missing, image, randomise

# A fine map's height and width; the coarse one is half, rounded up.
SIZES = [(6, 8), (7, 5), (1, 4), (3, 1)]
CHANNELS = 3


def pair(
    batch: int, size: tuple[int, int], channels: int = CHANNELS
) -> tuple[torch.Tensor, torch.Tensor]:
    """A coarse and a fine map in float64."""
    half = [-(-side // 2) for side in size]
    coarse = image(batch, channels, *half, seed=3, dtype=torch.float64)
    return coarse, image(batch, channels, *size, seed=4, dtype=torch.float64)


def random_align(kind: str, channels: int = CHANNELS, seed: int = 5) -> nn.Module:
    """A float64 alignment with random parameters; offsets reach beyond neighbours and borders."""
    module = {"flow": FlowAlign, "deform": DeformAlign}[kind](channels)
    return randomise(module, seed).double()


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_fusion_is_the_reference(size: tuple[int, int], batch: int) -> None:
    module = randomise(AdaptiveFusion(5)).double()
    x = image(batch, 5, *size, seed=1, dtype=torch.float64)
    y = image(batch, 5, *size, seed=2, dtype=torch.float64)
    assert_close(module(x, y), reference.adaptive_fusion(x.numpy(), y.numpy(), arrays(module)))


def test_fusion_tells_its_two_features_apart() -> None:
    module = randomise(AdaptiveFusion(5)).double()
    x, y = (image(1, 5, 3, 3, seed=seed, dtype=torch.float64) for seed in (1, 2))
    assert not torch.allclose(module(x, y), module(y, x))


def test_fusion_weights_stay_between_0_and_2() -> None:
    module = randomise(AdaptiveFusion(5)).double()
    nn.init.constant_(module.scale, 40.0)
    x, y = (image(1, 5, 9, 9, seed=seed, dtype=torch.float64) for seed in (1, 2))
    # With Y = 0 the output is lambda X, with X = 0 it is (2 - lambda) Y.
    for out, feature in ((module(x, 0 * y), x), (module(0 * x, y), y)):
        weight = out / feature
        assert (weight >= 0).all()
        assert (weight <= 2).all()
        assert_close(weight, weight[:, :1].expand_as(weight), 1e-9)


def test_fusion_begins_as_the_sum_exactly() -> None:
    x, y = image(2, 5, 4, 4, seed=1), image(2, 5, 4, 4, seed=2)
    assert torch.equal(AdaptiveFusion(5)(x, y), x + y)


def test_fusion_of_zero_features_has_finite_gradients() -> None:
    module = randomise(AdaptiveFusion(5))
    nn.init.zeros_(module.embed_moving.bias)
    nn.init.zeros_(module.embed_resident.bias)
    x = torch.zeros(1, 5, 2, 2, requires_grad=True)
    module(x, torch.zeros(1, 5, 2, 2)).sum().backward()
    assert torch.isfinite(x.grad).all()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.usefixtures("true_gradients")
def test_fusion_gradients() -> None:
    module = randomise(AdaptiveFusion(2)).double()
    x, y = (image(1, 2, 2, 2, seed=s, dtype=torch.float64).requires_grad_() for s in (1, 2))
    parameters = tuple(module.parameters())
    assert torch.autograd.gradcheck(lambda x, y, *_: module(x, y), (x, y, *parameters))


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_lambda_moves_as_its_optimizer_is_meant_to_move_it(kind: str) -> None:
    """By SGD as a plain scalar would, by Adam GAIN times as far at each step."""
    module = randomise(AdaptiveFusion(3)).double()
    x, y = (image(2, 3, 4, 5, seed=s, dtype=torch.float64) for s in (1, 2))
    # lambda's exponent, with scalars of its own
    m, r = module.embed_moving(x).detach(), module.embed_resident(y).detach()
    cosine = F.cosine_similarity(m, r, dim=1)[:, None]
    start = [GAIN * module.scale.item(), GAIN * module.bias.item()]
    tau, bias = plain = [torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in start]
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind]
    for parameters, gate in (
        (plain, 2 * torch.sigmoid(tau * cosine + bias)),
        ([module.scale, module.bias], module.gate(m, r)),
    ):
        (gate * x.mean(dim=1, keepdim=True)).sum().backward()
        make(parameters, lr=0.01).step()
    factor = 1 if kind == "sgd" else GAIN
    for before, scalar, own in zip(start, plain, (module.scale, module.bias), strict=True):
        moved = scalar.item() - before
        assert abs(moved) > 1e-4
        assert GAIN * own.item() - before == pytest.approx(factor * moved, rel=1e-3)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["flow", "deform"])
def test_align_is_the_reference(kind: str, size: tuple[int, int], batch: int) -> None:
    module = random_align(kind)
    coarse, fine = pair(batch, size)
    expected = reference.align(coarse.numpy(), fine.numpy(), arrays(module), kind)
    assert_close(module(coarse, fine), expected)


def test_flow_of_the_tests_leaves_the_map_on_every_side() -> None:
    # Otherwise the border's clamp would go untested.
    coarse, fine = pair(2, (7, 5))
    offsets = reference.flow_offsets(coarse.numpy(), fine.numpy(), arrays(random_align("flow")))
    x = np.arange(5) // 2 + offsets[:, 0]
    y = (np.arange(7) // 2)[:, None] + offsets[:, 1]
    assert x.min() < 0 < 2 < x.max()
    assert y.min() < 0 < 3 < y.max()


@pytest.mark.parametrize("size", SIZES)
def test_upsample_is_the_reference(size: tuple[int, int]) -> None:
    coarse, fine = pair(2, size)
    assert torch.equal(
        UpsampleAlign()(coarse, fine), torch.from_numpy(reference.up2(coarse.numpy(), size))
    )


@pytest.mark.parametrize("size", [*SIZES, (200, 336)])
@pytest.mark.parametrize("kind", ["flow", "deform"])
def test_align_begins_as_nearest_upsampling(kind: str, size: tuple[int, int]) -> None:
    module = {"flow": FlowAlign, "deform": DeformAlign}[kind](CHANNELS)
    coarse, fine = (x.float() for x in pair(1, size))
    # At detection's largest maps the normalised coordinates of grid_sample have few digits left.
    assert_close(module(coarse, fine), reference.up2(coarse.numpy(), size), 1e-4)


@pytest.mark.parametrize(("axis", "shift"), [(0, (0, 1)), (1, (1, 0))])
def test_a_constant_flow_shifts_by_whole_coarse_pixels(axis: int, shift: tuple[int, int]) -> None:
    # Channel 0 is x, channel 1 is y; +1 reads the next coarse pixel to the right, or below.
    module = FlowAlign(CHANNELS).double()
    nn.init.zeros_(module.offset.bias)
    with torch.no_grad():
        module.offset.bias[axis] = 1.0
    coarse, fine = pair(1, (8, 6))
    rows = (torch.arange(8) // 2 + shift[0]).clamp(max=3)
    columns = (torch.arange(6) // 2 + shift[1]).clamp(max=2)
    assert_close(module(coarse, fine), coarse[:, :, rows][:, :, :, columns], 1e-9)


@pytest.mark.parametrize("kind", ["flow", "deform"])
def test_align_gradients(kind: str) -> None:
    module = random_align(kind, 2)
    coarse, fine = (x.requires_grad_() for x in pair(1, (4, 3), 2))
    inputs = (coarse, fine, *module.parameters())
    assert torch.autograd.gradcheck(lambda c, f, *_: module(c, f), inputs)


@pytest.mark.parametrize("kind", ["flow", "deform"])
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    module = random_align(kind)
    module(*pair(2, (7, 6))).pow(2).sum().backward()
    assert not gradients_missing(module)


@pytest.mark.parametrize("kind", ["flow", "deform"])
def test_autocast_keeps_the_position_exact(kind: str) -> None:
    # With a constant flow a bfloat16 coordinate would be off by pixels on this width; the values
    # are small whole numbers, so that any read of another pixel shows.
    width = 600
    ramp = torch.arange(width // 2).remainder(7).float()
    coarse = ramp.expand(1, CHANNELS, 2, width // 2).contiguous()
    module = {"flow": FlowAlign, "deform": DeformAlign}[kind](CHANNELS)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(coarse, torch.zeros(1, CHANNELS, 4, width))
    assert_close(out, reference.up2(coarse.numpy(), (4, width)), 0.01)


def test_a_batch_is_aligned_image_by_image() -> None:
    for kind in ("flow", "deform"):
        module = random_align(kind)
        coarse, fine = pair(3, (5, 6))
        alone = [module(coarse[a:b], fine[a:b]) for a, b in pairwise(range(4))]
        assert_close(module(coarse, fine), torch.cat(alone), 1e-9)
