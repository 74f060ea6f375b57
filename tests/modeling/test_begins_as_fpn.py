"""INSPIRE begins as FPN: with an FPN's weights it computes that FPN's outputs, to rounding."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.model_zoo import get_config
from detectron2.modeling import Backbone, build_model
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from detectron2.structures import Instances
from torch import nn

from inspire_d2.modeling import InspireFPN, add_inspire_config

from .helpers import (
    ALIGNS,
    FEEDBACKS,
    assert_close,
    assert_same_outputs,
    image,
    resnet_pyramid,
    tiny_pyramid,
    tiny_resnet,
)

OWN = ("ise", "align", "fusion", "ssba", "feedback_")


def calm(bottom_up: nn.Module) -> nn.Module:
    """Give norms random statistics and weights with which a deep random network stays sane."""
    generator = torch.Generator().manual_seed(11)
    for module in bottom_up.modules():
        if isinstance(module, FrozenBatchNorm2d):
            size = module.weight.shape
            module.weight.copy_(0.2 + 0.4 * torch.rand(size, generator=generator))
            module.bias.copy_(0.1 * torch.randn(size, generator=generator))
            module.running_mean.copy_(0.1 * torch.randn(size, generator=generator))
            module.running_var.copy_(0.7 + 0.6 * torch.rand(size, generator=generator))
    return bottom_up


def resnet(depth: int, norm: str) -> ResNet:
    """Detectron2's ResNet, whole."""
    stages = ResNet.make_default_stages(depth, norm=norm)
    names = ["res2", "res3", "res4", "res5"]
    return calm(ResNet(BasicStem(3, 64, norm), stages, out_features=names))


def regnet() -> RegNet:
    """Detectron2's RegNetY-400MF."""
    return calm(
        RegNet(
            stem_class=SimpleStem,
            stem_width=32,
            block_class=ResBottleneckBlock,
            depth=16,
            w_a=27.89,
            w_0=48,
            w_m=2.09,
            group_width=8,
            se_ratio=0.25,
            norm="FrozenBN",
            out_features=["s1", "s2", "s3", "s4"],
        )
    )


def load(module: InspireFPN, fpn: FPN) -> None:
    """Load an FPN's state; nothing may be left over, nothing missing but INSPIRE's own."""
    result = module.load_state_dict(fpn.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith(OWN) for key in result.missing_keys)


def assert_begins_as_fpn(bottom_ups: tuple[Backbone, Backbone], **options: Any) -> None:
    """Compare a random FPN with INSPIRE of its weights, on an image for p2..p6."""
    fpn = tiny_pyramid(bottom_ups[0], FPN, 32, top_block=LastLevelMaxPool()).eval()
    module = tiny_pyramid(bottom_ups[1], out_channels=32, top_block=LastLevelMaxPool(), **options)
    load(module, fpn)
    x = image(1, 3, 128, 192, seed=5)
    with torch.no_grad():
        expected, outputs = fpn(x), module.eval()(x)
    assert list(expected) == ["p2", "p3", "p4", "p5", "p6"]
    # Neither vanished nor diverged: otherwise equality would say little.
    assert all(1e-3 < value.abs().max() < 1e3 for value in expected.values())
    assert_same_outputs(outputs, expected, 1e-5)


@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_resnet18_begins_as_fpn(steps: int, align: str) -> None:
    bottom_ups = resnet(18, "GN"), resnet(18, "GN")
    assert_begins_as_fpn(bottom_ups, steps=steps, align=align)


def test_resnet50_begins_as_fpn() -> None:
    assert_begins_as_fpn((resnet(50, "FrozenBN"), resnet(50, "FrozenBN")), steps=2)


def test_regnet_begins_as_fpn() -> None:
    assert_begins_as_fpn((regnet(), regnet()), steps=2)


@pytest.mark.parametrize("feedback", FEEDBACKS)
@pytest.mark.parametrize(
    "options",
    [{"fuse_type": "avg"}, {"norm": "GN"}, {"norm": "GN", "fuse_type": "avg"}],
)
def test_options_of_fpn_begin_as_fpn(options: dict[str, Any], feedback: str) -> None:
    def build(cls: type[FPN], **more: Any) -> FPN:
        block = LastLevelP6P7(128, 32)
        return tiny_pyramid(tiny_resnet(), cls, 32, top_block=block, **options, **more)

    fpn = build(FPN)
    module = build(InspireFPN, steps=3, ise=False, feedback=feedback)
    load(module, fpn)
    x = image(2, 3, 96, 64)
    assert_same_outputs(module(x), fpn(x), 1e-5)


def test_frozen_fpn_is_matched_in_training_too() -> None:
    fpn, module = resnet_pyramid(FPN), resnet_pyramid()
    load(module, fpn)
    x = image(1, 3, 64, 64)
    assert_same_outputs(module.train()(x), fpn.train()(x), 1e-5)


def mask_rcnn_config() -> CfgNode:
    """The zoo's Mask R-CNN, with a narrow ResNet-18 that needs no weights from outside."""
    cfg = get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "GN"
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 64
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 32
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 40
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    return cfg


def spread(model: nn.Module) -> None:
    """Widen the heads' first, nearly equal scores, so that rounding cannot reorder boxes."""
    heads = [
        model.proposal_generator.rpn_head.objectness_logits,
        model.proposal_generator.rpn_head.anchor_deltas,
        model.roi_heads.box_predictor.cls_score,
        model.roi_heads.box_predictor.bbox_pred,
        model.roi_heads.mask_head.predictor,
    ]
    for head in heads:
        nn.init.normal_(head.weight, std=2 * head.weight[0].numel() ** -0.5)


def detect(model: nn.Module) -> Instances:
    """The detections of a model on a small random image."""
    picture = torch.randint(0, 256, (3, 120, 150), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.eval()([{"image": picture.float(), "height": 120, "width": 150}])[0][
            "instances"
        ]


@pytest.mark.parametrize("steps", [1, 2])
def test_mask_rcnn_detects_the_same(steps: int) -> None:
    cfg = mask_rcnn_config()
    plain = build_model(cfg)
    spread(plain)
    add_inspire_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_inspire_fpn_backbone"
    cfg.MODEL.INSPIRE.STEPS = steps
    model = build_model(cfg)
    assert isinstance(model.backbone, InspireFPN)
    result = model.load_state_dict(plain.state_dict(), strict=False)
    assert not result.unexpected_keys
    expected, found = detect(plain), detect(model)
    assert len(found) == len(expected) == 20
    # Some of it must be worth comparing.
    assert 0 < expected.pred_masks.float().mean() < 1
    assert expected.scores.std() > 1e-3
    assert torch.equal(found.pred_classes, expected.pred_classes)
    assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, 1e-4)
    assert_close(found.scores, expected.scores, 1e-4)
    # A pixel whose probability is one half to rounding may fall on either side.
    assert (found.pred_masks != expected.pred_masks).float().mean() < 1e-3
