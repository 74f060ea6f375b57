"""A pretrained stem on 1, 2, 4 channels: its response to equal channels is what it was."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import nn

from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.engine.input_channels import fit_input_channels
from inspire_d2.modeling import InspireFPN
from inspire_d2.modeling.unet import ResNetEncoder, StrideTwoStem


def stem(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"stem": BasicStem(channels, 8, "BN")}).eval()


@pytest.mark.parametrize("channels", [1, 2, 4, 9])
@pytest.mark.parametrize("as_array", [False, True])
def test_response_to_equal_channels_is_kept(channels: int, as_array: bool) -> None:
    pretrained, ours = stem(3), stem(channels)
    weights = dict(pretrained.state_dict())
    if as_array:
        weights = {name: value.numpy() for name, value in weights.items()}
    fit_input_channels(weights, ours)
    ours.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    grey = torch.rand(2, 1, 40, 50)
    torch.testing.assert_close(
        ours["stem"](grey.expand(-1, channels, -1, -1)),
        pretrained["stem"](grey.expand(-1, 3, -1, -1)),
    )


def test_three_channels_stay_as_they_are() -> None:
    weights = dict(stem(3).state_dict())
    before = weights["stem.conv1.weight"]
    fit_input_channels(weights, stem(3))
    assert weights["stem.conv1.weight"] is before


@pytest.mark.parametrize("name", ["stem.conv1.weight", "conv1_w"])
def test_imagenet_weights_start_a_unet_of_four_channels(name: str, tmp_path: Path) -> None:
    """Through the checkpointer, from a .pkl as Detectron2's zoo has them."""
    encoder = ResNetEncoder(
        StrideTwoStem(4, 64, "FrozenBN"),
        ResNet.make_default_stages(18, norm="FrozenBN"),
        out_features=["stem", "res2", "res3"],
    )
    model = nn.Module()
    model.backbone = InspireFPN(encoder, ["stem", "res2", "res3"], 8, out_features=["p1"])
    source = {
        key: value.numpy() for key, value in encoder.state_dict().items() if "stem.conv1" in key
    }
    rgb = np.random.RandomState(0).randn(64, 3, 7, 7).astype(np.float32)
    del source["stem.conv1.weight"]
    path = tmp_path / "weights.pkl"
    content = {"model": {name: rgb, **source}, "__author__": "x", "matching_heuristics": True}
    if name == "conv1_w":  # Caffe2's names
        content = {name: rgb}
    path.write_bytes(pickle.dumps(content))
    ReportingCheckpointer(model, allow_partial=True).load(str(path))
    loaded = encoder.stem.conv1.weight.detach().numpy()
    assert loaded.shape == (64, 4, 7, 7)
    np.testing.assert_allclose(loaded.sum(axis=1), rgb.sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(loaded, loaded[:, :1].repeat(4, axis=1))
