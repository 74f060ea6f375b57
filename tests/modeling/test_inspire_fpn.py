"""The whole pyramid against the reference, in float64 and with every parameter random."""

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7

from inspire_d2.modeling import InspireFPN

from . import reference
from .helpers import (
    ALIGNS,
    FEEDBACKS,
    TinyBottomUp,
    arrays,
    as_stage,
    assert_close,
    groups_of,
    image,
    randomise,
    tiny_pyramid,
)

Outputs = tuple[dict[str, np.ndarray], dict[int, np.ndarray]]


def pyramid(bottom_up: TinyBottomUp, **options: Any) -> InspireFPN:
    """A float64 pyramid with random parameters."""
    return randomise(tiny_pyramid(bottom_up, **options), seed=7).double()


def expected_of(
    module: InspireFPN,
    x: torch.Tensor,
    *,
    steps: int = 2,
    ise: bool = True,
    align: str = "flow",
    feedback: str = "shared",
    fuse_type: str = "sum",
    in_features: tuple[str, ...] | None = None,
) -> Outputs:
    """The reference's outputs and last features for the pyramid's weights and its options."""
    bottom_up = module.bottom_up
    names = in_features or bottom_up.names
    first_level = bottom_up.names.index(names[0]) + 1
    lowest = x.numpy()
    for name in bottom_up.names[:first_level]:
        lowest = as_stage(getattr(bottom_up, name))(lowest)
    stages = []
    for step in range(steps):
        separate = step > 0 and feedback == "separate"
        modules = {
            first_level + i: getattr(module, f"feedback_{n}") if separate else getattr(bottom_up, n)
            for i, n in enumerate(names)
            if i > 0
        }
        stages.append({level: as_stage(stage) for level, stage in modules.items()})
    return reference.inspire_fpn(
        lowest, stages, arrays(module), groups_of(module), ise=ise, kind=align, fuse_type=fuse_type
    )


def check(module: InspireFPN, x: torch.Tensor, **options: Any) -> None:
    """Compare all outputs with the reference's."""
    outputs = module(x)
    expected, _ = expected_of(module, x, **options)
    assert list(outputs) == list(expected)
    for name, value in expected.items():
        assert_close(outputs[name], value)


@pytest.mark.parametrize("ise", [True, False])
@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_outputs_are_the_reference(steps: int, align: str, ise: bool) -> None:
    options = {"steps": steps, "align": align, "ise": ise}
    x = image(2, 3, 21, 27, dtype=torch.float64)
    check(pyramid(TinyBottomUp(3), **options), x, **options)


@pytest.mark.parametrize("steps", [2, 3])
def test_separate_feedback_is_the_reference(steps: int) -> None:
    options = {"steps": steps, "feedback": "separate"}
    check(pyramid(TinyBottomUp(4), **options), image(1, 3, 33, 26, dtype=torch.float64), **options)


@pytest.mark.parametrize("size", [(32, 64), (35, 50)])
@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_any_number_of_levels_is_the_reference(levels: int, size: tuple[int, int]) -> None:
    check(pyramid(TinyBottomUp(levels)), image(1, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("align", ALIGNS)
def test_average_fusion_is_the_reference(align: str) -> None:
    options = {"fuse_type": "avg", "align": align}
    check(pyramid(TinyBottomUp(3), **options), image(2, 3, 24, 16, dtype=torch.float64), **options)


def test_group_norm_in_the_convolutions_is_the_reference() -> None:
    module = pyramid(TinyBottomUp(3), norm="GN", out_channels=32)
    check(module, image(2, 3, 21, 27, dtype=torch.float64))


@pytest.mark.parametrize("feedback", FEEDBACKS)
@pytest.mark.parametrize("names", [("early", "mid"), ("mid", "late", "last")])
def test_part_of_the_features_is_the_reference(names: tuple[str, ...], feedback: str) -> None:
    # The stages before the first level run once; the stages after the last one are not needed.
    module = randomise(InspireFPN(TinyBottomUp(5), names, 8, feedback=feedback)).double()
    x = image(1, 3, 42, 50, dtype=torch.float64)
    check(module, x, in_features=names, feedback=feedback)


def test_max_pool_block_is_the_reference() -> None:
    module = pyramid(TinyBottomUp(5), top_block=LastLevelMaxPool())
    x = image(1, 3, 100, 75, dtype=torch.float64)
    outputs = module(x)
    expected, _ = expected_of(module, x)
    assert list(outputs) == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert_close(outputs["p6"], expected["p5"][:, :, ::2, ::2])


def p6p7(feature: np.ndarray, module: InspireFPN) -> list[np.ndarray]:
    """LastLevelP6P7 by the reference's convolutions."""
    params = reference.sub(arrays(module), "top_block")
    p6 = reference.conv3x3(feature, reference.sub(params, "p6"), stride=2)
    return [p6, reference.conv3x3(reference.relu(p6), reference.sub(params, "p7"), stride=2)]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_block_on_a_bottom_up_feature_sees_the_last_step(steps: int) -> None:
    bottom_up = TinyBottomUp(4)
    channels = bottom_up.output_shape()["late"].channels
    module = pyramid(bottom_up, steps=steps, top_block=LastLevelP6P7(channels, 8, "late"))
    x = image(2, 3, 67, 50, dtype=torch.float64)
    outputs = module(x)
    expected, features = expected_of(module, x, steps=steps)
    for name, value in zip(["p5", "p6"], p6p7(features[4], module), strict=True):
        assert_close(outputs[name], value)
    for name, value in expected.items():
        assert_close(outputs[name], value)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_block_on_a_feature_deeper_than_the_pyramid(feedback: str) -> None:
    # "last" is not a level: it has no SSBA of its own, but follows from the level before it.
    bottom_up, names = TinyBottomUp(5), ("early", "mid", "late")
    channels = bottom_up.output_shape()["last"].channels
    block = LastLevelP6P7(channels, 8, "last")
    module = InspireFPN(bottom_up, names, 8, top_block=block, feedback=feedback)
    module = randomise(module).double()
    x = image(1, 3, 70, 66, dtype=torch.float64)
    outputs = module(x)
    expected, features = expected_of(module, x, in_features=names, feedback=feedback)
    # Nor a copy: its own would be idle, which training in several processes does not take.
    stage = bottom_up.last
    expected |= dict(zip(["p5", "p6"], p6p7(as_stage(stage)(features[4]), module), strict=True))
    sum(value.sum() for value in outputs.values()).backward()
    assert all(parameter.grad is not None for parameter in stage.parameters())
    assert hasattr(module, "feedback_late") == (feedback == "separate")
    assert list(outputs) == list(expected)
    for name, value in expected.items():
        assert_close(outputs[name], value)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_top_block_that_nobody_wants_is_left_out(
    steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    bottom_up, names = TinyBottomUp(4), ("early", "mid", "late")
    channels = bottom_up.output_shape()["late"].channels
    x = image(1, 3, 32, 32)

    def pyramid(**options: Any) -> InspireFPN:
        block = LastLevelP6P7(channels, 8, "late")
        return InspireFPN(bottom_up, names, 8, top_block=block, steps=steps, **options)

    every, own = pyramid(), pyramid(out_features=["p2", "p3", "p4"])
    own.load_state_dict(every.state_dict(), strict=False)
    outputs = own(x)
    assert list(outputs) == ["p2", "p3", "p4"] == list(own.output_shape())
    for name, value in outputs.items():
        assert torch.equal(value, every(x)[name])
    sum(value.sum() for value in outputs.values()).backward()
    assert all(p.grad is not None for name, p in own.named_parameters() if "bottom_up" not in name)
    with pytest.raises(ValueError, match="out_features must name some of p2"):
        pyramid(out_features=["p7"])
    with pytest.raises(ValueError, match="all of the top block's p5, p6 or none"):
        pyramid(out_features=["p2", "p3", "p4", "p5"])
    late = {"out_features": ["p3", "p4"]}
    for options in ({"gradient_steps": 1},) if steps > 1 else ({},):
        caplog.clear()
        pyramid(**late, **options)
        assert "lacks p2, the finest level, whose own parts never learn" in caplog.text
    if steps > 1:
        caplog.clear()
        later = pyramid(**late)
        sum(value.sum() for value in later(x).values()).backward()
        assert all(p.grad is not None for n, p in later.named_parameters() if "bottom_up" not in n)
        assert not caplog.text


def test_block_on_a_feature_finer_than_the_pyramid() -> None:
    # Odd, but FPN allows it: the feature is the first pass's, and the levels are fed back.
    bottom_up, names = TinyBottomUp(4), ("early", "mid", "late")
    channels = bottom_up.output_shape()["stem"].channels
    module = InspireFPN(bottom_up, names, 8, top_block=LastLevelP6P7(channels, 8, "stem"))
    module = randomise(module).double()
    x = image(1, 3, 32, 32, dtype=torch.float64)
    outputs = module(x)
    expected, _ = expected_of(module, x, in_features=names)
    expected |= dict(
        zip(["p5", "p6"], p6p7(as_stage(bottom_up.stem)(x.numpy()), module), strict=True)
    )
    for name, value in expected.items():
        assert_close(outputs[name], value)


def test_each_option_changes_the_outputs() -> None:
    # An option that is accepted and ignored would pass every test of one option alone.
    x = image(1, 3, 32, 32, dtype=torch.float64)
    changes: list[dict[str, Any]] = [
        {},
        {"steps": 1},
        {"steps": 3},
        {"ise": False},
        {"align": "deform"},
        {"align": "none"},
        {"fuse_type": "avg"},
        {"feedback": "separate"},
    ]
    results = []
    for change in changes:
        module = pyramid(TinyBottomUp(3), **change)
        # Random values by a parameter's place would differ for any change of parameters.
        for name, parameter in module.named_parameters():
            seed = sum(name.encode())
            parameter.data.copy_(image(*parameter.shape, seed=seed, dtype=torch.float64) * 0.4)
        results.append(module(x)["p1"])
    for a in range(len(results)):
        for b in range(a):
            assert not torch.allclose(results[a], results[b], rtol=1e-3), (changes[a], changes[b])


@pytest.mark.usefixtures("true_gradients")
@pytest.mark.parametrize("options", [{"steps": 2}, {"steps": 3, "feedback": "separate"}])
def test_pyramid_gradients(options: dict[str, Any]) -> None:
    # All inputs and parameters at once along random directions: gradcheck would take minutes.
    module = pyramid(TinyBottomUp(3), **options)
    x = image(1, 3, 13, 14, dtype=torch.float64).requires_grad_()
    inputs = [x, *module.parameters()]

    def loss() -> torch.Tensor:
        return sum(value.pow(2).mean() for value in module(x).values())

    gradients = torch.autograd.grad(loss(), inputs)
    step = 1e-9  # so short that no kink of a ReLU or of a read lies within
    for seed in range(3):
        directions = [image(*i.shape, seed=seed, dtype=torch.float64) for i in inputs]
        values = []
        for sign in (1, -2):
            with torch.no_grad():
                for value, direction in zip(inputs, directions, strict=True):
                    value.add_(direction, alpha=sign * step)
                values.append(loss())
        with torch.no_grad():
            for value, direction in zip(inputs, directions, strict=True):
                value.add_(direction, alpha=step)
        numerical = (values[0] - values[1]) / (2 * step)
        analytical = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
        torch.testing.assert_close(numerical, analytical, rtol=1e-5, atol=1e-6)
