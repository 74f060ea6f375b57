"""Peer pyramids: FPN's interface, any size of image, batch 1."""

import importlib.util

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from torch import nn

from tools.peers import BiFPN, PathAggregationFPN, ReleasedPyramid, TorchvisionFPN
from tools.peers.released import DeformableFusion, SqueezeGate

FEATURES = ["res2", "res3", "res4", "res5"]
feneck = pytest.mark.skipif(
    importlib.util.find_spec("feneck") is None, reason="feneck, an optional package, is missing"
)
PEERS = [
    ReleasedPyramid,
    TorchvisionFPN,
    pytest.param(PathAggregationFPN, marks=feneck),
    pytest.param(BiFPN, marks=feneck),
]


class Halving(Backbone):
    """A bottom-up of few channels: each level halves the one before it, rounding up."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=2, padding=1)
        self.levels = nn.ModuleList(
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1) for c in (8, 16, 32, 64)
        )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x, features = self.stem(x), {}
        for name, level in zip(FEATURES, self.levels, strict=True):
            features[name] = x = level(x)
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=2 ** (4 + i), stride=2 ** (2 + i))
            for i, name in enumerate(FEATURES)
        }


def build(peer, top_block=None, in_features=FEATURES):
    return peer(bottom_up=Halving(), in_features=in_features, out_channels=32, top_block=top_block)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("in_features", [FEATURES, FEATURES[1:]])
def test_a_peer_has_fpns_interface(peer, in_features):
    def top_block():
        return LastLevelP6P7(128, 32) if in_features[0] == "res3" else LastLevelMaxPool()

    ours, fpn = build(peer, top_block(), in_features), build(FPN, top_block(), in_features)
    assert ours.output_shape() == fpn.output_shape()
    assert ours.size_divisibility == fpn.size_divisibility
    assert ours.padding_constraints.get("square_size", 0) == 0
    images = torch.randn(2, 3, 64, 96)
    outputs, expected = ours.eval()(images), fpn.eval()(images)
    assert list(outputs) == list(expected)
    assert {k: v.shape for k, v in outputs.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_trains_at_batch_1_on_odd_sizes(peer):
    model = build(peer).train()
    outputs = model(torch.randn(1, 3, 107, 133))
    assert [tuple(x.shape[2:]) for x in outputs.values()] == [(27, 33), (14, 17), (7, 9), (4, 5)]
    sum(x.square().mean() for x in outputs.values()).backward()
    for name, parameter in model.named_parameters():
        # BiFPN weighs its inputs by what each brings; any gradient may vanish, none may be missing.
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_released_neck_leaves_the_top_level_ungated():
    model = build(ReleasedPyramid)
    assert (len(model.laterals), len(model.gates), len(model.fusions)) == (4, 3, 3)
    assert model.laterals[0].out_channels == 180
    assert model.fusions[0].offset.in_channels == model.fusions[0].align.in_channels == 360
    assert model.fusions[0].offset.kernel_size == (1, 1)


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.0), (0.5, 0.46211716), (20.0, 1.0)])
def test_the_released_fusion_blends_by_a_tanh(bias, share):
    fusion = DeformableFusion(4)
    nn.init.zeros_(fusion.gate.weight)
    nn.init.constant_(fusion.gate.bias, bias)
    coarse, fine = torch.randn(2, 4, 3, 4), torch.randn(2, 4, 5, 7)
    up = fusion.up(coarse)[:, :, :5, :7]
    # Offsets begin at zero: the deformable convolution is a plain one.
    align = fusion.align
    plain = nn.functional.conv2d(torch.cat([up, fine], dim=1), align.weight, align.bias, padding=1)
    expected = share * plain + (1 - share) * fine
    torch.testing.assert_close(fusion(coarse, fine), expected, rtol=1e-4, atol=1e-5)


def test_the_released_gate_normalises_the_map_not_the_pooled_vector():
    gate = SqueezeGate(8).train()
    x = torch.randn(1, 8, 5, 6)
    assert gate(x).shape == x.shape
    assert [type(m) for m in gate.modules() if isinstance(m, nn.BatchNorm2d)] == [nn.BatchNorm2d]
    assert gate.norm.num_batches_tracked == 1


def test_the_released_neck_runs_in_bfloat16():
    model = build(ReleasedPyramid).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(images)
    for name, value in outputs.items():
        assert value.dtype == torch.bfloat16
        torch.testing.assert_close(value.float(), expected[name], rtol=0.1, atol=0.1)
