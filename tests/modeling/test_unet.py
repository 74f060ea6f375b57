"""U-Nets: shapes at any size, pretrained weights, and INSPIRE as their decoder."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import nn

from inspire_d2.modeling import InspireFPN
from inspire_d2.modeling.unet import ResNetEncoder, StrideTwoStem, UNet, UNetEncoder

from .helpers import assert_close, assert_same_outputs, image, randomise

WIDTHS = (4, 6, 8, 10, 12)
LEVELS = ("enc0", "enc1", "enc2", "enc3", "enc4")


def encoder(channels: int = 3, norm: str = "GN") -> UNetEncoder:
    torch.manual_seed(0)
    return UNetEncoder(channels, WIDTHS, norm)


def resnet_encoder(norm: str = "BN", freeze_at: int = 0) -> ResNetEncoder:
    torch.manual_seed(0)
    return ResNetEncoder(
        StrideTwoStem(3, 64, norm),
        ResNet.make_default_stages(18, norm=norm),
        out_features=["stem", "res2", "res3", "res4"],
        freeze_at=freeze_at,
    )


@pytest.mark.parametrize("norm", ["GN", "IN", "BN", ""])
@pytest.mark.parametrize(("channels", "size"), [(1, (32, 48)), (4, (37, 51)), (2, (16, 17))])
def test_encoder_has_the_maps_that_it_says(norm: str, channels: int, size: tuple) -> None:
    module = encoder(channels, norm)
    features = module.eval()(image(2, channels, *size))
    assert list(features) == list(LEVELS)
    for name, shape in module.output_shape().items():
        expected = [-(-length // shape.stride) for length in size]
        assert features[name].shape == (2, shape.channels, *expected)


@pytest.mark.parametrize(("norm", "widths"), [("IN", (4, 6)), ("GN", (16, 32))])
def test_encoder_takes_maps_of_one_pixel(norm: str, widths: tuple[int, ...]) -> None:
    module = UNetEncoder(1, widths, norm)
    with torch.no_grad():
        module.enc1[-1].norm.bias.fill_(0.5)
    found = module(image(1, 1, 2, 2))["enc1"]
    assert found.shape[-2:] == (1, 1)
    torch.testing.assert_close(found, torch.full_like(found, 0.5))  # of one element: its bias


def test_instance_norm_is_torchs() -> None:
    module = UNetEncoder(1, (4, 6), "IN").enc0[0].norm
    x = image(2, 4, 5, 7)
    torch.testing.assert_close(module(x), F.instance_norm(x))


def test_a_norm_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="norm=XX: take IN, GN, BN"):
        UNetEncoder(1, (4, 6), "XX")


def test_encoder_at_work_is_unets() -> None:
    """Two convolutions with norm and ReLU, then pooling: written out for the first two stages."""
    module = encoder()
    x = image(1, 3, 12, 10)
    for name, pooled in (("enc0", False), ("enc1", True)):
        convs = [m for m in getattr(module, name) if isinstance(m, nn.Conv2d)]
        x = nn.functional.max_pool2d(x, 2) if pooled else x
        for conv in convs:
            x = nn.functional.conv2d(x, conv.weight, padding=1)
            groups = 4 if name == "enc0" else 2  # the greatest divisor of 32 and the channels
            x = nn.functional.group_norm(x, groups, conv.norm.weight, conv.norm.bias).relu()
        assert_close(module(image(1, 3, 12, 10))[name], x)


def test_resnet_encoder_is_the_resnet_with_the_stems_map_besides() -> None:
    ours = resnet_encoder().eval()
    theirs = ResNet(
        BasicStem(3, 64, "BN"),
        ResNet.make_default_stages(18, norm="BN"),
        out_features=["res2", "res3", "res4"],
    ).eval()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())
    x = image(1, 3, 61, 75)
    features = ours(x)
    for name, feature in theirs(x).items():
        assert torch.equal(features[name], feature)
    strides = {name: shape.stride for name, shape in ours.output_shape().items()}
    assert strides == {"stem": 2, "res2": 4, "res3": 8, "res4": 16}
    assert features["stem"].shape == (1, 64, 31, 38)


def test_resnet_encoder_refuses_the_stem_that_pools() -> None:
    with pytest.raises(ValueError, match="stem of stride 2"):
        ResNetEncoder(BasicStem(3, 64, "BN"), ResNet.make_default_stages(18, norm="BN"))


def test_resnet_encoder_freezes_as_the_resnet_does() -> None:
    module = resnet_encoder(freeze_at=2)
    trained = {name.split(".")[0] for name, p in module.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4"}


@pytest.mark.parametrize("size", [(32, 48), (37, 51), (16, 31)])
@pytest.mark.parametrize("widths", [None, (3, 5, 7, 9)])
def test_unet_has_the_maps_that_it_says(size: tuple[int, int], widths: tuple | None) -> None:
    module = UNet(encoder(), LEVELS, widths=widths).eval()
    pyramid = module(image(2, 3, *size))
    assert list(pyramid) == ["p0", "p1", "p2", "p3"]
    for level, (name, shape) in enumerate(module.output_shape().items()):
        width = (widths or WIDTHS)[level]
        assert shape == ShapeSpec(channels=width, stride=2**level)
        assert pyramid[name].shape == (2, width, *(-(-n // 2**level) for n in size))


def test_unet_refuses_widths_of_other_levels() -> None:
    with pytest.raises(ValueError, match="widths must give 4 levels"):
        UNet(encoder(), LEVELS, widths=(3, 5))


def test_unet_trains_all_it_has() -> None:
    module = UNet(encoder(), LEVELS)
    sum(p.square().sum() for p in module(image(2, 3, 32, 32)).values()).backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("levels", [("enc0",), ("enc0", "enc2"), ("enc1", "enc0")])
def test_unet_refuses_levels_that_do_not_double(levels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="strides double"):
        UNet(encoder(), levels)


@pytest.mark.parametrize("kind", ["unet", "resnet"])
@pytest.mark.parametrize("steps", [1, 2])
def test_inspire_is_the_decoder_and_begins_as_fpn(kind: str, steps: int) -> None:
    bottom_up = encoder() if kind == "unet" else resnet_encoder("FrozenBN")
    names = list(bottom_up.output_shape())
    finest = "p0" if kind == "unet" else "p1"
    fpn = FPN(bottom_up, names, 8).eval()
    ours = InspireFPN(bottom_up, names, 8, steps=steps, out_features=[finest]).eval()
    ours.load_state_dict(fpn.state_dict(), strict=False)
    x = image(1, 3, 64, 96)
    assert_same_outputs(ours(x), {finest: fpn(x)[finest]})
    assert ours.output_shape() == {finest: fpn.output_shape()[finest]}


def test_inspire_feeds_back_into_the_encoder() -> None:
    """With SSBA open, the second pass through enc1 and up changes what comes out."""
    ours = InspireFPN(encoder(), LEVELS, 8, steps=2, out_features=["p0"])
    once = InspireFPN(encoder(), LEVELS, 8, steps=1, out_features=["p0"])
    randomise(ours)
    once.load_state_dict(ours.state_dict(), strict=False)
    x = image(1, 3, 33, 47)
    assert ours(x)["p0"].shape == (1, 8, 33, 47)
    assert not torch.allclose(ours(x)["p0"], once(x)["p0"], atol=1e-3)
    ours(x)["p0"].square().sum().backward()
    # all but the last align: of the coarsest level there is none
    assert all(p.grad is not None for p in ours.parameters())


def test_outputs_that_are_not_wanted_have_no_convolutions() -> None:
    ours = InspireFPN(encoder(), LEVELS, 8, out_features=["p0", "p2"])
    assert [n for n, _ in ours.named_children() if n.startswith("fpn_output")] == [
        "fpn_output0",
        "fpn_output2",
    ]
    assert list(ours(image(1, 3, 32, 32))) == list(ours.output_shape()) == ["p0", "p2"]
    for wrong in ([], ["p7"]):
        with pytest.raises(ValueError, match="out_features must name some of p0, p1"):
            InspireFPN(encoder(), LEVELS, 8, out_features=wrong)
