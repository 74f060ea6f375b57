"""The bottom-up run stage by stage: what it must offer, feedback, checkpoints and freezing."""

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.backbone.fpn import FPN
from torch import nn

from inspire_d2.modeling import InspireFPN, StagedBottomUpError

from .helpers import (
    FEEDBACKS,
    OpaqueBottomUp,
    assert_same_outputs,
    backward,
    gradients_missing,
    image,
    randomise,
    resnet_pyramid,
    tiny_pyramid,
    tiny_resnet,
)

STAGES = ("res3", "res4", "res5")


def test_unstageable_bottom_up_says_what_it_needs() -> None:
    with pytest.raises(StagedBottomUpError, match=r"OpaqueBottomUp.*stage_names"):
        tiny_pyramid(OpaqueBottomUp(), steps=2)


def test_unstageable_bottom_up_serves_for_one_step() -> None:
    module = tiny_pyramid(OpaqueBottomUp(), steps=1)
    outputs = module(image(1, 3, 32, 32))
    assert list(outputs) == ["p1", "p2", "p3"]


def test_stage_names_without_such_stages_are_refused() -> None:
    bottom_up = OpaqueBottomUp()
    bottom_up.stage_names = ("early", "mid")  # children of `inner`, not of the bottom-up
    with pytest.raises(StagedBottomUpError):
        tiny_pyramid(bottom_up, steps=2)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_what_sees_only_the_image_runs_once(feedback: str) -> None:
    module = resnet_pyramid(steps=3, feedback=feedback)
    calls: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(*_: object) -> None:
            calls[name] = calls.get(name, 0) + 1

        return hook

    for name, child in module.named_modules():
        child.register_forward_hook(count(name))
    module(image(1, 3, 64, 64))
    once = [
        "bottom_up.stem",
        "bottom_up.res2",
        "top_block",
        *(f"fpn_output{j}" for j in range(2, 6)),
    ]
    assert {name: calls[name] for name in once} == dict.fromkeys(once, 1)
    shared = feedback == "shared"
    assert [calls[f"bottom_up.{name}"] for name in STAGES] == [3 if shared else 1] * 3
    if not shared:
        assert [calls[f"feedback_{name}"] for name in STAGES] == [2] * 3
    assert [calls[f"fpn_lateral{j}"] for j in range(2, 6)] == [3] * 4


def test_only_separate_feedback_has_stages_of_its_own() -> None:
    def own(**options: Any) -> set[str]:
        return {n for n, _ in resnet_pyramid(**options).named_children() if "feedback" in n}

    assert own(feedback="separate") == {f"feedback_{name}" for name in STAGES}
    assert own(feedback="shared") == set()
    assert own(feedback="separate", steps=1) == set()


def test_separate_stages_are_copies_not_the_same() -> None:
    module = resnet_pyramid(feedback="separate")
    for name in STAGES:
        own = module.get_submodule(f"feedback_{name}").state_dict()
        source = module.bottom_up.get_submodule(name).state_dict()
        assert list(own) == list(source)
        for key, value in own.items():
            assert torch.equal(value, source[key])
            assert value.data_ptr() != source[key].data_ptr()


def assert_feedback_is(module: InspireFPN, state: dict[str, torch.Tensor], prefix: str) -> None:
    """Assert that the separate stages hold the state found below ``prefix``."""
    for name in STAGES:
        stage = module.get_submodule(f"feedback_{name}").state_dict()
        assert stage
        for key, value in stage.items():
            assert torch.equal(value, state[f"{prefix}{name}.{key}"]), f"{name}.{key}"


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("assign", [False, True])
def test_separate_stages_start_from_loaded_weights(assign: bool, nested: bool) -> None:
    fpn = randomise(resnet_pyramid(FPN), 3)
    state = fpn.state_dict()
    module = resnet_pyramid(feedback="separate")
    given = {f"backbone.{key}": value for key, value in state.items()} if nested else dict(state)
    target = nn.ModuleDict({"backbone": module}) if nested else module
    result = target.load_state_dict(given, strict=False, assign=assign)
    assert not result.unexpected_keys
    assert not any("feedback" in key for key in result.missing_keys)
    # The caller's dict is the caller's.
    assert not any("feedback" in key for key in given)
    assert_feedback_is(module, state, "bottom_up.")
    # ... and the copy is its own: training one must not move the other.
    for name in STAGES:
        own = module.get_submodule(f"feedback_{name}")
        source = module.bottom_up.get_submodule(name)
        for a, b in zip(own.parameters(), source.parameters(), strict=True):
            assert a.data_ptr() != b.data_ptr()


def test_separate_stages_keep_a_checkpoint_of_their_own() -> None:
    trained = randomise(resnet_pyramid(feedback="separate"), 4)
    state = trained.state_dict()
    module = resnet_pyramid(feedback="separate")
    module.load_state_dict(state)
    assert_feedback_is(module, state, "feedback_")
    x = image(1, 3, 64, 64)
    assert_same_outputs(module(x), trained(x), 1e-9)


def save_pkl(path: Path, state: dict[str, torch.Tensor], **extra: Any) -> str:
    """Write a checkpoint as Detectron2's model zoo has them."""
    with path.open("wb") as file:
        pickle.dump({"model": {k: v.numpy() for k, v in state.items()}, **extra}, file)
    return str(path)


def detector(**options: Any) -> nn.Module:
    """A model whose backbone is the pyramid, as in a detector."""
    model = nn.Module()
    model.backbone = resnet_pyramid(**options)
    return model


def test_separate_stages_start_from_imagenet_weights(tmp_path: Path) -> None:
    # An ImageNet checkpoint names a ResNet's parameters alone: Detectron2 matches name endings.
    source = randomise(tiny_resnet(), 5).state_dict()
    path = save_pkl(
        tmp_path / "R.pkl", source, matching_heuristics=True, __author__="test of the pyramid"
    )
    model = detector(feedback="separate")
    DetectionCheckpointer(model).load(path)
    for key, value in model.backbone.bottom_up.state_dict().items():
        assert torch.equal(value, source[key]), key
    assert_feedback_is(model.backbone, source, "")


@pytest.mark.parametrize("own", [False, True])
def test_detectors_checkpoint_fills_separate_stages(tmp_path: Path, own: bool) -> None:
    trained = detector(feedback="separate" if own else "shared")
    state = randomise(trained, 6).state_dict()
    path = save_pkl(tmp_path / "model.pkl", state, __author__="test of the pyramid")
    model = detector(feedback="separate")
    DetectionCheckpointer(model).load(path)
    prefix = "backbone.feedback_" if own else "backbone.bottom_up."
    assert_feedback_is(model.backbone, state, prefix)


def test_shared_feedback_reads_a_checkpoint_of_separate_stages() -> None:
    # Its own stages are then left over, and said to be.
    state = resnet_pyramid(feedback="separate").state_dict()
    result = resnet_pyramid(feedback="shared").load_state_dict(state, strict=False)
    assert not result.missing_keys
    assert result.unexpected_keys
    assert all(key.startswith("feedback_") for key in result.unexpected_keys)


@pytest.mark.parametrize("feedback", FEEDBACKS)
@pytest.mark.parametrize("freeze_at", range(6))
def test_frozen_stages_get_no_gradient_and_all_else_does(freeze_at: int, feedback: str) -> None:
    module = tiny_pyramid(tiny_resnet(freeze_at=freeze_at), feedback=feedback)
    # Freezing survives the copying of values.
    randomise(module, 8).train()
    backward(module(image(2, 3, 64, 64)))
    assert not gradients_missing(module)
    for position, name in enumerate(["stem", "res2", *STAGES], start=1):
        frozen = position <= freeze_at
        copies = [f"bottom_up.{name}"]
        if feedback == "separate" and name in STAGES:
            copies.append(f"feedback_{name}")
        for copy in copies:
            for parameter in module.get_submodule(copy).parameters():
                assert parameter.requires_grad is not frozen
                assert (parameter.grad is None) is frozen


@pytest.mark.parametrize(
    ("norm", "options", "warns"),
    [
        ("BN", {}, True),
        ("BN", {"steps": 1}, False),
        ("BN", {"feedback": "separate"}, False),
        ("FrozenBN", {}, False),
        ("", {}, False),
    ],
)
def test_shared_batch_norms_warn(
    norm: str, options: dict[str, Any], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tiny_pyramid(tiny_resnet(norm), **options)
    messages = [record.getMessage() for record in caplog.records]
    assert bool(messages) is warns
    # Stem and res2 run once; res3 to res5 have three norms each, the shortcut's being one.
    assert all("9 batch norms" in message for message in messages)


def test_frozen_batch_norms_do_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tiny_pyramid(tiny_resnet("BN", freeze_at=5))
    assert not caplog.records


@pytest.mark.parametrize("feedback", ["shared", "separate"])
def test_batch_norms_of_the_lateral_convolutions_warn(
    feedback: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Both steps run the lateral convolutions, whichever stages the second one runs.
    with caplog.at_level(logging.WARNING):
        tiny_pyramid(tiny_resnet("FrozenBN"), norm="BN", feedback=feedback)
    assert [record.getMessage()[:13] for record in caplog.records] == ["4 batch norms"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        tiny_pyramid(tiny_resnet("FrozenBN"), norm="LN", feedback=feedback)
        tiny_pyramid(tiny_resnet("FrozenBN"), norm="BN", steps=1)
    assert not caplog.records
