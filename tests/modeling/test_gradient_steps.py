"""gradient_steps: the same outputs, and gradients through the last steps alone."""

from collections import Counter
from typing import Any

import pytest
import torch

from inspire_d2.modeling import InspireFPN

from .helpers import assert_close, backward, image, kept_bytes, randomise, resnet_pyramid


def pyramid(**options: Any) -> InspireFPN:
    return randomise(resnet_pyramid(**options))


def cut_between_steps(module: InspireFPN, forward_steps: int) -> InspireFPN:
    """Cut a pyramid's graph where SSBA reads the first steps: gradients computed another way.

    What a step makes reaches the next by SSBA alone, and each level's runs once a step.
    """
    calls: Counter[str] = Counter()
    for name, child in module.named_children():
        if name.startswith("ssba"):

            def cut(
                _: torch.nn.Module, inputs: tuple[torch.Tensor, torch.Tensor], name: str = name
            ) -> tuple[torch.Tensor, torch.Tensor]:
                calls[name] += 1
                made, feature = inputs
                return made.detach() if calls[name] <= forward_steps else made, feature

            child.register_forward_pre_hook(cut)
    return module


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("steps", "last"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("checkpoint_steps", [False, True])
def test_gradients_are_those_of_the_last_steps(
    steps: int, last: int, checkpoint_steps: bool, autocast: bool
) -> None:
    x = image(2, 3, 64, 96)
    cut = cut_between_steps(pyramid(steps=steps), steps - last)
    short = pyramid(steps=steps, gradient_steps=last, checkpoint_steps=checkpoint_steps)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, outputs = cut(x), short(x)
    for name, value in expected.items():
        assert torch.equal(outputs[name], value)
    for out in (expected, outputs):
        backward(out)
    for (name, a), b in zip(cut.named_parameters(), short.parameters(), strict=True):
        assert a.grad is not None, name
        assert_close(b.grad, a.grad, 0.02 if autocast else 1e-4)


def test_autocast_keeps_no_cast_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch before 2.11 gives what was cast so to the step that learns, too."""
    module, events = pyramid(steps=3, gradient_steps=1), []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: events.append("cleared"))
    module.fpn_lateral2.register_forward_hook(lambda *_: events.append(torch.is_grad_enabled()))
    with torch.autocast("cpu", torch.bfloat16):
        module(image(1, 3, 64, 64))
        before_its_end = list(events)
    assert before_its_end == [False, "cleared", False, "cleared", True]


def test_gradients_differ_from_those_of_all_steps() -> None:
    x = image(2, 3, 64, 96)
    every, last = pyramid(steps=2), pyramid(steps=2, gradient_steps=1)
    for module in (every, last):
        backward(module(x))
    weights = [module.bottom_up.res2[0].conv1.weight.grad for module in (every, last)]
    assert weights[1].any() and not torch.allclose(*weights, rtol=0.01)


def test_scoring_is_as_without() -> None:
    x = image(1, 3, 64, 64)
    with torch.no_grad():
        outputs = [pyramid(steps=3, gradient_steps=last).eval()(x) for last in (None, 1)]
    for name, value in outputs[0].items():
        assert torch.equal(outputs[1][name], value)


def test_forward_steps_keep_no_maps() -> None:
    x = image(1, 3, 256, 256)  # maps outweigh parameters
    two, three = (kept_bytes(pyramid(steps=n, gradient_steps=1), x) for n in (2, 3))
    assert three == two < 0.85 * kept_bytes(pyramid(steps=2), x)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gradient_steps": 0}, r"None or a whole number within 1\.\.2, the steps, got 0"),
        ({"gradient_steps": 3}, r"within 1\.\.2, the steps, got 3"),
        ({"gradient_steps": True}, "got True"),
        ({"gradient_steps": "1"}, "got '1'"),
        ({"gradient_steps": 1, "feedback": "separate"}, "own later stages .* would never learn"),
    ],
)
def test_wrong_steps_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        resnet_pyramid(**options)


def test_separate_stages_learn_by_all_steps() -> None:
    assert resnet_pyramid(gradient_steps=2, feedback="separate")
