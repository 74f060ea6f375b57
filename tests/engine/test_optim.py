"""The learning rates of a model's parts, and for a batch of another size."""

import logging

import pytest
import torch
from detectron2.modeling.backbone.fpn import FPN
from detectron2.solver import LRMultiplier
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import LinearParamScheduler
from omegaconf import DictConfig, OmegaConf
from torch import nn

from inspire_d2.engine.optim import (
    bottom_up_lr,
    check_kind,
    hyperparameters,
    keep_hyperparameters,
    scale_lr,
)
from inspire_d2.errors import InputError
from tests.modeling.helpers import resnet_pyramid


def make_config(batch: int, rule: dict | None) -> DictConfig:
    return OmegaConf.create(
        {
            "optimizer": {"lr": 0.02},
            "dataloader": {"train": {"total_batch_size": batch}},
            "train": {"max_iter": 10, "lr_scaling": rule},
        }
    )


@pytest.mark.parametrize("feedback", ["shared", "separate"])
@pytest.mark.parametrize("options", [{}, {"inspire": 4.0}])
def test_parts_learn_at_their_rates(feedback: str, options: dict[str, float]) -> None:
    backbone = resnet_pyramid(steps=2, feedback=feedback)
    model = nn.ModuleDict({"backbone": backbone})
    stages = [backbone._feedback_stage(name) for name in backbone._feedback_names]
    encoder = {id(p) for part in (backbone.bottom_up, *stages) for p in part.parameters()}
    fpn = FPN(backbone.bottom_up, backbone.in_features, backbone._out_feature_channels["p2"])
    of_fpn = {f"backbone.{name}" for name, _ in fpn.named_parameters()}
    groups = get_default_optimizer_params(
        model, base_lr=1.0, lr_factor_func=bottom_up_lr(0.25, **options), overrides=None
    )
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        rest = 1.0 if name in of_fpn else options.get("inspire", 1.0)
        assert rate[id(parameter)] == (0.25 if id(parameter) in encoder else rest), name


@pytest.mark.parametrize("factors", [{"factor": -0.25}, {"factor": 0.25, "inspire": -1.0}])
def test_no_part_learns_backwards(factors: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"\.(factor=-0.25|inspire=-1.0) must be 0 or more"):
        bottom_up_lr(**factors)


def test_rate_follows_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    cfg = make_config(4, {"enabled": True, "batch_size": 16})
    with caplog.at_level(logging.INFO):
        assert scale_lr(cfg) == pytest.approx(0.005)
    assert "0.02 x 4 / 16 = 0.005" in caplog.text
    assert "train.lr_scaling.enabled=False" in caplog.text


def test_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    cfg = make_config(4, {"enabled": False, "batch_size": 16})
    with caplog.at_level(logging.INFO):
        assert scale_lr(cfg) == 0.02
    assert "lr_scaling is off" in caplog.text


@pytest.mark.parametrize(
    "rule", [None, {"enabled": True, "batch_size": None}, {"enabled": True, "batch_size": 4}]
)
def test_unchanged_and_silent(rule: dict | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert scale_lr(make_config(4, rule)) == 0.02
    assert not caplog.text


def two_groups(rate: float, decay: float) -> torch.optim.Optimizer:
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": rate / 4}, {"params": [weights[1]]}]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)


def scheduled(optimizer: torch.optim.Optimizer, done: int) -> LRMultiplier:
    """Schedule it as Detectron2's hook does: from 1 down to 0 in eight iterations."""
    return LRMultiplier(optimizer, LinearParamScheduler(1, 0), 8, last_iter=done - 1)


@pytest.mark.parametrize(("rate", "decay"), [(0.5, 0.25), (2.0, 0.125)])
def test_a_resumed_optimizer_has_the_configs_values(
    rate: float, decay: float, caplog: pytest.LogCaptureFixture
) -> None:
    first = two_groups(0.5, 0.25)
    schedule = scheduled(first, 0)
    for _ in range(2):
        first.step()
        schedule.step()
    resumed = two_groups(rate, decay)
    wanted = hyperparameters(resumed)
    resumed.load_state_dict(first.state_dict())
    with caplog.at_level(logging.INFO):
        keep_hyperparameters(resumed, wanted)
    schedule = scheduled(resumed, 2)
    assert [group["lr"] for group in resumed.param_groups] == [rate / 4 * 6 / 8, rate * 6 / 8]
    schedule.step()
    assert [group["lr"] for group in resumed.param_groups] == [rate / 4 * 5 / 8, rate * 5 / 8]
    assert [group["weight_decay"] for group in resumed.param_groups] == [decay, decay]
    if (rate, decay) == (0.5, 0.25):
        assert not caplog.messages
        return
    (told,) = caplog.messages
    assert "lr 0.125 -> 0.5, weight_decay 0.25 -> 0.125, lr 0.5 -> 2.0" in told


@pytest.mark.parametrize(
    ("saved", "resumed", "told"),
    [("AdamW", "SGD", "betas.* in place of .*momentum.* of SGD"), ("SGD", "Adam", "of Adam: ")],
)
def test_another_kind_of_optimizer_does_not_go_on(saved: str, resumed: str, told: str) -> None:
    def stepped(name: str) -> torch.optim.Optimizer:
        weight = nn.Parameter(torch.ones(2))
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(torch.optim, name)([weight], lr=0.1, **options)
        optimizer.register_load_state_dict_pre_hook(check_kind)
        weight.grad = torch.ones(2)
        optimizer.step()
        return optimizer

    state = stepped(saved).state_dict()
    with pytest.raises(InputError, match=told):
        stepped(resumed).load_state_dict(state)
    for group in state["param_groups"]:  # as an older PyTorch has saved it
        group.pop("fused")
    stepped(saved).load_state_dict(state)
