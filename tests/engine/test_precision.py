"""The trainer of each precision."""

import logging
from pathlib import Path

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf
from torch import nn

from inspire_d2 import layout
from inspire_d2.engine import precision
from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.engine.precision import fit_to_device, has_fast_bfloat16, make_trainer


class Probe(nn.Module):
    """A model that remembers what precision its product was made in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.seen: list[torch.dtype] = []

    def forward(self, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        product = torch.stack(batch) @ self.weight
        self.seen.append(product.dtype)
        return {"loss": product.float().sum()}


def train_once(amp: bool) -> Probe:
    model = Probe()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer = make_trainer(model, [[torch.ones(2)]], optimizer, amp=amp, device="cpu")
    assert isinstance(trainer, SimpleTrainer)
    trainer.iter = 0
    with EventStorage(0):
        trainer.run_step()
    return model


def test_amp_on_a_cpu_is_bfloat16() -> None:
    assert train_once(amp=True).seen == [torch.bfloat16]
    assert train_once(amp=False).seen == [torch.float32]


def test_weights_stay_in_float32_and_learn() -> None:
    weight = train_once(amp=True).weight
    assert weight.dtype == torch.float32
    # d loss / d weight = 1 for each, at rate 0.5
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.5))


def fitted(device: str, **options: bool) -> list[bool]:
    train = {"amp": {"enabled": False}, "channels_last": False}
    train = OmegaConf.merge(train, OmegaConf.from_dotlist([f"{k}={v}" for k, v in options.items()]))
    fit_to_device(train, device)
    return [train.amp.enabled, train.channels_last]


@pytest.mark.parametrize("fast", [False, True])
def test_what_a_cpu_is_slow_at_is_set_aside(
    fast: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: fast)
    monkeypatch.setattr(layout, "_ONLY_AVX2", not fast)
    both = {"amp.enabled": True, "channels_last": True}
    with caplog.at_level(logging.WARNING):
        assert fitted("cpu", **both) == [fast, fast]
        assert ("no bfloat16 instructions" in caplog.text) is not fast
        assert ("no AVX-512 instructions" in caplog.text) is not fast
        caplog.clear()
        assert fitted("cuda:0", **both) == [True, True]
        assert fitted("cpu") == [False, False]
    assert not caplog.text


def test_configs_from_before_channels_last_are_fitted_too() -> None:
    train = OmegaConf.create({"amp": {"enabled": False}})
    fit_to_device(train, "cpu")
    assert train == {"amp": {"enabled": False}}


def test_bfloat16_instructions_are_those_the_system_lists() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "avx" not in cpuinfo.read_text():
        pytest.skip("no Linux on x86, whose /proc/cpuinfo lists the instructions")
    flags = set(cpuinfo.read_text().split())
    assert has_fast_bfloat16() == bool(flags & {"avx512_bf16", "avx_ne_convert"})


@pytest.mark.parametrize(
    ("onednn", "avx512", "bf16", "fast"),
    [
        (True, True, True, True),
        (True, True, False, False),  # oneDNN imitates it there
        (True, False, False, True),  # ARM, or the instructions of AVX2's successor
        (False, False, False, False),
    ],
)
def test_bfloat16_is_fast_where_it_is_computed(
    onednn: bool, avx512: bool, bf16: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    assert has_fast_bfloat16() is fast


@pytest.mark.parametrize("amp_before", [False, True])
def test_mixed_precision_can_be_switched_when_a_run_goes_on(
    amp_before: bool, tmp_path: Path
) -> None:
    def trainer(amp: bool) -> tuple[SimpleTrainer, ReportingCheckpointer]:
        model = Probe()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        made = make_trainer(model, [], optimizer, amp=amp, device="cuda")
        return made, ReportingCheckpointer(model, str(tmp_path), trainer=made)

    first, checkpointer = trainer(amp_before)
    first.iter = 3
    checkpointer.save("model_0000003")
    second, checkpointer = trainer(not amp_before)
    checkpointer.resume_or_load("", resume=True)
    assert checkpointer.resumed and second.iter == 3
