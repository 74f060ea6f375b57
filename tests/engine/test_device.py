"""A run is on the GPU if there is one, or where it is told, if that is there."""

import pytest
import torch

from inspire_d2.engine.device import resolve_device
from inspire_d2.errors import InputError


def test_device_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device(None) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(None) == "cpu"
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="no GPU that PyTorch can use"):
        resolve_device("cuda")
    for name in ("gpu", "mps", "meta", 5.5):
        with pytest.raises(InputError, match=f"train.device={name}: not a device; use cpu or cuda"):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda:0") == "cuda:0"
    with pytest.raises(InputError, match="cuda:9: this machine's last GPU is cuda:0"):
        resolve_device("cuda:9")
