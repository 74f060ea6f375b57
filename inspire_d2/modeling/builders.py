"""The pyramid for Detectron2's yaml configs: registered builders and their config keys."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from .inspire_fpn import InspireFPN

__all__ = [
    "add_inspire_config",
    "build_resnet_inspire_fpn_backbone",
    "build_retinanet_resnet_inspire_fpn_backbone",
]


def add_inspire_config(cfg: CfgNode) -> None:
    """Add MODEL.INSPIRE, the pyramid's own arguments; FPN's stay under MODEL.FPN."""
    cfg.MODEL.INSPIRE = CfgNode()
    cfg.MODEL.INSPIRE.STEPS = 2
    cfg.MODEL.INSPIRE.ISE = True
    # "flow", "deform" or "none"
    cfg.MODEL.INSPIRE.ALIGN = "flow"
    # "shared" or "separate"
    cfg.MODEL.INSPIRE.FEEDBACK = "shared"
    # The last steps that gradients pass through; 0: all
    cfg.MODEL.INSPIRE.GRADIENT_STEPS = 0
    cfg.MODEL.INSPIRE.CHECKPOINT_STEPS = False


def _build(cfg: CfgNode, bottom_up: nn.Module, top_block: nn.Module) -> InspireFPN:
    return InspireFPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
        steps=cfg.MODEL.INSPIRE.STEPS,
        ise=cfg.MODEL.INSPIRE.ISE,
        align=cfg.MODEL.INSPIRE.ALIGN,
        feedback=cfg.MODEL.INSPIRE.FEEDBACK,
        gradient_steps=cfg.MODEL.INSPIRE.GRADIENT_STEPS or None,
        checkpoint_steps=cfg.MODEL.INSPIRE.CHECKPOINT_STEPS,
    )


@BACKBONE_REGISTRY.register()
def build_resnet_inspire_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> InspireFPN:
    """Build ResNet + INSPIRE for R-CNN: p2..p5, and p6 by max pooling."""
    return _build(cfg, build_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_inspire_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> InspireFPN:
    """Build ResNet + INSPIRE for RetinaNet: p3..p5, and p6, p7 from res5."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    res5_channels = bottom_up.output_shape()["res5"].channels
    return _build(cfg, bottom_up, LastLevelP6P7(res5_channels, cfg.MODEL.FPN.OUT_CHANNELS))
