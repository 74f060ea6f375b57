"""The learning rate for a batch of another size."""

import logging

import pytest
from omegaconf import DictConfig, OmegaConf

from inspire_d2.engine.optim import scale_lr


def make_config(batch: int, rule: dict | None) -> DictConfig:
    return OmegaConf.create(
        {
            "optimizer": {"lr": 0.02},
            "dataloader": {"train": {"total_batch_size": batch}},
            "train": {"max_iter": 10, "lr_scaling": rule},
        }
    )


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
