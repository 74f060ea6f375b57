"""checkpoint_steps: the same outputs and gradients, and maps that are not kept."""

from typing import Any

import pytest
import torch
from detectron2.layers import batch_norm

from inspire_d2.modeling import InspireFPN
from inspire_d2.modeling.staged import keep_statistics

from .helpers import (
    TinyBottomUp,
    assert_close,
    backward,
    image,
    kept_bytes,
    randomise,
    resnet_pyramid,
    tiny_pyramid,
    tiny_resnet,
)


def pyramid(**options: Any) -> InspireFPN:
    return randomise(resnet_pyramid(**options))


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


@pytest.mark.slow
def test_a_compiled_step_is_the_same() -> None:
    x = image(1, 3, 32, 32)
    plain, compiled = (
        randomise(InspireFPN(TinyBottomUp(4), ("mid", "late"), 8, checkpoint_steps=True))
        for _ in range(2)
    )
    expected = plain(x)
    outputs = torch.compile(compiled, backend="eager")(x)
    for name, value in expected.items():
        assert_close(outputs[name], value, 1e-5)
    for out in (expected, outputs):
        backward(out)
    for (name, a), b in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None and a.grad.any():
            assert_close(b.grad, a.grad, 1e-4)


@pytest.mark.parametrize("feedback", ["shared", "separate"])
def test_batch_norms_count_a_batch_once(feedback: str) -> None:
    options = {"norm": "BN", "steps": 3}
    modules = [
        randomise(
            tiny_pyramid(tiny_resnet("BN"), feedback=feedback, checkpoint_steps=on, **options)
        )
        for on in (False, True)
    ]
    for module in modules:
        backward(module(image(2, 3, 64, 96)))
    plain, saving = (dict(module.named_buffers()) for module in modules)
    assert any("num_batches_tracked" in name for name in plain)
    for name, value in plain.items():
        assert torch.equal(saving[name], value), name
    for a, b in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        if a.grad is not None and a.grad.any():
            assert_close(b.grad, a.grad, 1e-4)
    # And they go on counting.
    counter = "bottom_up.stem.conv1.norm.num_batches_tracked"
    assert saving[counter] == 1
    modules[1](image(2, 3, 64, 96))
    assert dict(modules[1].named_buffers())[counter] == 2


@pytest.mark.parametrize("processes", [1, 2])
def test_a_repeated_pass_keeps_the_statistics(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of Detectron2's batch norm over processes, which has a pass of its own for two."""
    monkeypatch.setattr(batch_norm.comm, "get_world_size", lambda: processes)
    monkeypatch.setattr(batch_norm, "differentiable_all_reduce", lambda sums: processes * sums)
    norm = batch_norm.NaiveSyncBatchNorm(4, stats_mode="N")
    x = image(2, 4, 5, 6)
    first = norm(x)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    assert before["running_mean"].any()
    with keep_statistics(norm):
        assert torch.equal(norm(x), first)
    for name, value in norm.named_buffers():
        assert torch.equal(value, before[name])
    norm(x)
    assert not torch.equal(norm.running_mean, before["running_mean"])


def test_a_repeated_pass_keeps_what_torch_counts_over_processes() -> None:
    """What Detectron2 calls SyncBN; in one process it takes a CPU's maps, too."""
    norm = torch.nn.SyncBatchNorm(4)
    x = image(2, 4, 5, 6)
    first = norm(x)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    with keep_statistics(norm):
        assert torch.equal(norm(x), first)
    for name, value in norm.named_buffers():
        assert torch.equal(value, before[name])
    norm(x)
    assert norm.num_batches_tracked == 2


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
