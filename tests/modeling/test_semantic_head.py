"""Segmentation heads: first logits, losses, and supervision of several levels."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from inspire_d2.modeling.losses import CrossEntropyDice
from inspire_d2.modeling.semantic_head import SemanticHead, UNetHead

from .helpers import image

IGNORE = 255


def head(dice_weight: float = 1.0, **options: float) -> SemanticHead:
    torch.manual_seed(0)
    shapes = {f"p{j}": ShapeSpec(channels=4, stride=2**j) for j in (2, 3)}
    return SemanticHead(
        shapes,
        num_classes=2,
        conv_dims=32,  # what GN divides into 32 groups
        common_stride=4,
        norm="GN",
        loss=CrossEntropyDice(dice_weight, IGNORE),
        **options,
    )


def features(batch: int = 2) -> dict[str, torch.Tensor]:
    return {f"p{j}": image(batch, 4, 64 >> j, 64 >> j, seed=j) for j in (2, 3)}


def test_first_logits_are_near_zero() -> None:
    logits = head().layers(features())
    assert logits.abs().max() < 1


def test_losses_are_detectron2s_and_dice() -> None:
    target = torch.randint(0, 2, (2, 64, 64), generator=torch.Generator().manual_seed(2))
    module = head(dice_weight=0.5)
    theirs = SemSegFPNHead.losses(module, module.layers(features()), target)
    ours = module(features(), target)[1]
    assert set(ours) == {"loss_sem_seg", "loss_dice"}
    torch.testing.assert_close(ours["loss_sem_seg"], theirs["loss_sem_seg"])
    torch.testing.assert_close(head(dice_weight=1.0)(features(), target)[1]["loss_dice"],
                               2 * ours["loss_dice"])  # fmt: skip
    for name, value in head(0.5, loss_weight=0.25)(features(), target)[1].items():
        torch.testing.assert_close(value, ours[name] / 4)
    assert set(head(dice_weight=0)(features(), target)[1]) == {"loss_sem_seg"}


def unet_features(batch: int = 2, channels: tuple[int, ...] = (4, 6)) -> dict[str, torch.Tensor]:
    return {f"p{j}": image(batch, c, 32 >> j, 48 >> j, seed=j) for j, c in enumerate(channels)}


def unet_head(features: tuple[str, ...], channels: int | list[int] | dict[str, int]) -> UNetHead:
    torch.manual_seed(0)
    return UNetHead(features, channels, num_classes=3, loss=CrossEntropyDice(1.0, IGNORE))


def test_unet_head_predicts_with_its_finest_map() -> None:
    maps = unet_features()
    module = unet_head(("p0", "p1"), {"p0": 4, "p1": 6})
    weight = module.predictor_p0.weight.detach()[:, :, 0, 0]
    expected = torch.einsum("kc,nchw->nkhw", weight, maps["p0"])
    logits, losses = module.eval()(maps)
    assert losses == {}
    torch.testing.assert_close(logits, expected)
    assert logits.abs().max() < 1


def test_unet_head_reads_channels_by_level() -> None:
    by_level = unet_head(("p0", "p1"), [4, 6, 8])
    by_name = unet_head(("p0", "p1"), {"p0": 4, "p1": 6})
    for name, weight in by_name.state_dict().items():
        assert by_level.state_dict()[name].shape == weight.shape
    for channels in ([4], {"p0": 4}):
        with pytest.raises(ValueError, match="says nothing of the feature p1"):
            unet_head(("p0", "p1"), channels)


def test_unet_head_convolves_with_norm_and_relu_first() -> None:
    torch.manual_seed(0)
    loss = CrossEntropyDice(1.0, IGNORE)
    module = UNetHead(("p0",), 4, num_classes=3, loss=loss, num_convs=2).eval()
    weights = module.state_dict()
    x = maps = unet_features()["p0"]
    for index in range(2):
        x = F.conv2d(x, weights[f"convs_p0.{index}.weight"], padding=1)
        x = F.relu(F.group_norm(x, num_groups=4))  # 4 channels: 4 of the 32 groups
    predictor = weights["predictor_p0.weight"]
    torch.testing.assert_close(module({"p0": maps})[0], F.conv2d(x, predictor))


def test_unet_head_refuses_fewer_convolutions_than_none() -> None:
    with pytest.raises(ValueError, match="num_convs must be 0 or more"):
        UNetHead(("p0",), 4, loss=CrossEntropyDice(1.0, IGNORE), num_classes=3, num_convs=-1)


def test_unet_head_of_a_stride_of_two_comes_up_to_the_image() -> None:
    logits, _ = unet_head(("p1",), 6).eval()(unet_features())
    assert logits.shape == (2, 3, 32, 48)


def test_deep_supervision_weighs_each_level_half_of_the_finer_one() -> None:
    maps = unet_features()
    target = torch.randint(0, 3, (2, 32, 48), generator=torch.Generator().manual_seed(3))
    deep = unet_head(("p0", "p1"), {"p0": 4, "p1": 6})
    alone = {}
    for name, channels in (("p0", 4), ("p1", 6)):
        one = unet_head((name,), channels)
        one.load_state_dict(deep.state_dict(), strict=False)
        alone[name] = one(maps, target)[1]
    for kind, value in deep(maps, target)[1].items():
        torch.testing.assert_close(value, (2 * alone["p0"][kind] + alone["p1"][kind]) / 3)


@pytest.mark.parametrize("features", [(), ("p1", "p0"), ("p0", "p0")])
def test_unet_head_refuses_features_out_of_order(features: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="fine to coarse"):
        unet_head(features, 4)
