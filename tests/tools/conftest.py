"""Settings of the tests of what stands in tools/."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# As the scripts themselves do: tools/ is not installed.
sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Run on one thread: on small maps a second one costs more than it saves, on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """What every run holds, as far as tools/predict.py can tell: predicting.Reddest."""
    from inspire_d2.engine.config import load_config

    from .predicting import Reddest  # it imports tools/

    model = Reddest()
    cfg = load_config(str(Path(__file__).parents[2] / "configs/polyp/unet_r18_inspire.py"))
    monkeypatch.setattr("inspire_d2.predictor.load_trained", lambda *_, **__: (cfg, model))
    return model
