"""The order in memory in which the pyramid hands its maps to convolutions."""

import pytest
import torch

from inspire_d2 import layout
from tests.modeling.helpers import assert_close, image, randomise, resnet_pyramid


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("only_avx2", [False, True])
def test_maps_come_as_the_processor_wants_them(
    only_avx2: bool, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = randomise(resnet_pyramid(steps=steps), 7).double()
    x = image(2, 3, 64, 96, dtype=torch.float64)
    monkeypatch.setattr(layout, "_ONLY_AVX2", not only_avx2)
    expected = module(x)
    monkeypatch.setattr(layout, "_ONLY_AVX2", only_avx2)
    seen = []
    for stage in ("res3", "res4"):
        conv = next(m for m in getattr(module.bottom_up, stage).modules() if hasattr(m, "stride"))
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for level in (2, 3):
        conv = getattr(module, f"fpn_output{level}")
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for name, output in module(x).items():
        assert_close(output, expected[name])
    again = seen[2:]  # the first pass of the bottom-up has the order of the images
    assert len(again) == 2 * steps
    for made in again:
        assert made.is_contiguous() == only_avx2
        assert made.is_contiguous(memory_format=torch.channels_last) != only_avx2


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (2, 64, 9, 7), (3, 1, 6, 6), (2, 5, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("strided", [False, True])
def test_a_map_in_another_order_is_the_same_map(
    shape: tuple[int, ...], dtype: torch.dtype, strided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_ONLY_AVX2", True)
    x = image(*shape, seed=4).to(dtype)
    if strided:  # neither order
        x = torch.cat([x, x], dim=3)[..., ::2]
    x.requires_grad_()
    last = layout.as_channels_last(x)
    usual = layout.suit_convolutions(last)
    assert last.is_contiguous(memory_format=torch.channels_last) and usual.is_contiguous()
    assert torch.equal(last, x) and torch.equal(usual, x)
    gradient = image(*shape, seed=5).to(dtype)
    of_last, of_x = torch.autograd.grad(usual, (last, x), gradient)
    assert torch.equal(of_last, gradient) and torch.equal(of_x, gradient)
    assert of_last.is_contiguous(memory_format=torch.channels_last)


def test_a_map_in_the_right_order_is_not_copied() -> None:
    x = image(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    assert layout.as_channels_last(x) is x


def test_the_bottom_ups_own_maps_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    module = resnet_pyramid(steps=2)
    features = module.bottom_up(image(1, 3, 64, 64))
    before = dict(features)
    monkeypatch.setattr(module.bottom_up, "forward", lambda _: features)
    module(image(1, 3, 64, 64))
    assert all(features[name] is kept for name, kept in before.items())
    assert all(kept.is_contiguous() for kept in before.values())
