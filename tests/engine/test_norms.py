"""SyncBatchNorm in one process and on the CPU."""

import functools
import logging

import pytest
import torch
from detectron2.engine import launch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import nn

from inspire_d2.engine.norms import fit_sync_batch_norm


def make_model(norm: type[nn.Module] | functools.partial) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(norm(4), nn.ReLU()), norm(4))


def test_one_process_computes_batch_norm(caplog: pytest.LogCaptureFixture) -> None:
    model, expected = make_model(nn.SyncBatchNorm), make_model(nn.BatchNorm2d)
    for module in (model, expected):
        nn.init.constant_(module[2].weight, 0.5)
        module[2].weight.requires_grad = False
    with caplog.at_level(logging.INFO):
        fitted = fit_sync_batch_norm(model, on_gpu=False)
    assert "2 SyncBatchNorm run as BatchNorm, as there is one process" in caplog.text
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(fitted(x), expected(x))
    torch.testing.assert_close(fitted.state_dict(), expected.state_dict())
    assert not fitted[2].weight.requires_grad and fitted[2].bias.requires_grad


def test_other_norms_stay(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(nn.BatchNorm2d)
    before = list(model.modules())
    with caplog.at_level(logging.INFO):
        assert list(fit_sync_batch_norm(model, on_gpu=True).modules()) == before
    assert not caplog.text


def _share_statistics() -> None:
    model = fit_sync_batch_norm(make_model(nn.SyncBatchNorm), on_gpu=False)
    assert isinstance(model[2], NaiveSyncBatchNorm)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    rank = comm.get_rank()
    mine = model(x[2 * rank : 2 * rank + 2])
    everyone = make_model(nn.BatchNorm2d)(x)
    torch.testing.assert_close(mine, everyone[2 * rank : 2 * rank + 2], atol=1e-5, rtol=1e-4)


def test_two_cpu_processes_share_statistics() -> None:
    launch(_share_statistics, 2, dist_url="auto")
