"""checkpoint_steps: the same outputs and gradients, and maps that are not kept."""

from typing import Any

import pytest
import torch

from inspire_d2.modeling import InspireFPN

from .helpers import assert_close, backward, image, randomise, resnet_pyramid


def pyramid(**options: Any) -> InspireFPN:
    return randomise(resnet_pyramid(**options))


def kept_bytes(module: InspireFPN, x: torch.Tensor) -> int:
    """Bytes of distinct tensors that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = module(x)
    del outputs
    return sum(kept.values())


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("feedback", ["shared", "separate"])
def test_outputs_and_gradients_are_the_same(steps: int, feedback: str) -> None:
    x = image(2, 3, 64, 96)
    modules = [pyramid(steps=steps, feedback=feedback, checkpoint_steps=on) for on in (False, True)]
    outputs = [module(x) for module in modules]
    for name, value in outputs[0].items():
        assert torch.equal(outputs[1][name], value)
    for out in outputs:
        backward(out)
    for (name, a), b in zip(modules[0].named_parameters(), modules[1].parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None and a.grad.any():
            assert_close(b.grad, a.grad, 1e-4)


def test_fewer_maps_are_kept() -> None:
    x = image(1, 3, 64, 64)
    plain, saving, single = (
        kept_bytes(pyramid(**options), x)
        for options in ({"steps": 3}, {"steps": 3, "checkpoint_steps": True}, {"steps": 1})
    )
    assert single < plain
    assert saving < 0.6 * plain


def test_scoring_is_as_without() -> None:
    x = image(1, 3, 64, 64)
    with torch.no_grad():
        outputs = [pyramid(steps=2, checkpoint_steps=on).eval()(x) for on in (False, True)]
    for name, value in outputs[0].items():
        assert torch.equal(outputs[1][name], value)
