"""Settings of the tests of what stands in tools/."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pkl"
    path.touch()
    return path


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder with the splits of two centres, a third of whose polyps are small."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    content: dict[str, Any] = {"info": {"image_root": str(tmp_path / "polypgen")}}
    folder = tmp_path / "study"
    for centre in ("C1", "C2"):
        split = folder / "data" / centre
        split.mkdir(parents=True)
        content["images"] = [{"id": i, "height": 100, "width": 100} for i in range(6)]
        for name in ("train", "val"):
            (split / f"{name}.json").write_text(json.dumps(content))
    return folder
