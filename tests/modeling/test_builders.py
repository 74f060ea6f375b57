"""The pyramid by Detectron2's yaml configs: keys, registered builders, whole detectors."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from inspire_d2.modeling import (
    AdaptiveFusion,
    DeformAlign,
    FlowAlign,
    InspireFPN,
    UpsampleAlign,
    add_inspire_config,
    build_resnet_inspire_fpn_backbone,
    build_retinanet_resnet_inspire_fpn_backbone,
)

from .helpers import gradients_missing, image

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
RCNN_BUILDER = "build_resnet_inspire_fpn_backbone"
RETINANET_BUILDER = "build_retinanet_resnet_inspire_fpn_backbone"
IMAGE = ShapeSpec(channels=3)


def config(zoo: str, builder: str, depth: int = 18, **inspire: Any) -> CfgNode:
    """A zoo config on the pyramid: a GN ResNet, 32 channels out, nothing to download."""
    cfg = get_config(zoo)
    add_inspire_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.NORM = "GN"
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    for key, value in inspire.items():
        cfg.MODEL.INSPIRE[key] = value
    return cfg


def test_keys_and_defaults() -> None:
    cfg = get_cfg()
    add_inspire_config(cfg)
    assert dict(cfg.MODEL.INSPIRE) == {
        "STEPS": 2,
        "ISE": True,
        "ALIGN": "flow",
        "FEEDBACK": "shared",
        "GRADIENT_STEPS": 0,
        "CHECKPOINT_STEPS": False,
    }
    cfg.merge_from_list(["MODEL.INSPIRE.STEPS", "3", "MODEL.INSPIRE.ALIGN", "none"])
    assert cfg.MODEL.INSPIRE.STEPS == 3
    assert cfg.MODEL.INSPIRE.ALIGN == "none"
    with pytest.raises(AssertionError, match="STEP"):
        cfg.merge_from_list(["MODEL.INSPIRE.STEP", "3"])


def test_builders_are_registered() -> None:
    assert BACKBONE_REGISTRY.get(RCNN_BUILDER) is build_resnet_inspire_fpn_backbone
    registered = BACKBONE_REGISTRY.get(RETINANET_BUILDER)
    assert registered is build_retinanet_resnet_inspire_fpn_backbone


def test_defaults_of_the_constructor_are_those_of_the_config() -> None:
    backbone = build_backbone(config(MASK_RCNN, RCNN_BUILDER), IMAGE)
    assert isinstance(backbone, InspireFPN)
    explicit = InspireFPN(
        backbone.bottom_up, ["res2", "res3", "res4", "res5"], 32, top_block=LastLevelMaxPool()
    )
    assert set(backbone.state_dict()) == set(explicit.state_dict())


@pytest.mark.parametrize(("align", "kind"), [("flow", FlowAlign), ("deform", DeformAlign)])
def test_every_key_of_the_config_reaches_the_pyramid(align: str, kind: type) -> None:
    cfg = config(MASK_RCNN, RCNN_BUILDER, ALIGN=align, STEPS=2, ISE=False, FEEDBACK="separate")
    children = dict(build_backbone(cfg, IMAGE).named_children())
    assert isinstance(children["align2"], kind)
    assert isinstance(children["fusion4"], AdaptiveFusion)
    assert {"feedback_res3", "feedback_res4", "feedback_res5", "ssba2", "ssba5"} <= set(children)
    assert not any(name.startswith("ise") for name in children)
    # The coarsest level has nothing to be aligned with.
    assert "align5" not in children
    assert "fusion5" not in children


@pytest.mark.parametrize(
    ("key", "values"), [("CHECKPOINT_STEPS", (False, True)), ("GRADIENT_STEPS", (0, 1))]
)
def test_what_saves_memory_reaches_the_pyramid(key: str, values: tuple[int, int]) -> None:
    x = torch.zeros(1, 3, 64, 64)
    nodes = []
    for value in values:
        backbone = build_backbone(config(MASK_RCNN, RCNN_BUILDER, **{key: value}), IMAGE)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
            backbone(x)
        nodes.append(len(kept))
    assert nodes[1] < nodes[0]


def test_one_step_has_no_back_augmentation() -> None:
    cfg = config(MASK_RCNN, RCNN_BUILDER, STEPS=1, ALIGN="none", FEEDBACK="separate")
    children = dict(build_backbone(cfg, IMAGE).named_children())
    assert not any(name.startswith(("ssba", "feedback")) for name in children)
    assert isinstance(children["align2"], UpsampleAlign)
    assert {"ise2", "ise3", "ise4", "ise5"} <= set(children)


def test_fpns_own_keys_reach_the_pyramid() -> None:
    def build(norm: str, fuse_type: str) -> InspireFPN:
        cfg = config(MASK_RCNN, RCNN_BUILDER, STEPS=1)
        cfg.MODEL.FPN.NORM = norm
        cfg.MODEL.FPN.FUSE_TYPE = fuse_type
        return build_backbone(cfg, IMAGE).eval()

    assert "fpn_lateral2.norm.weight" in build("GN", "sum").state_dict()
    total, average = build("", "sum"), build("", "avg")
    average.load_state_dict(total.state_dict())
    x = image(1, 3, 64, 64)
    with torch.no_grad():
        a, b = total(x), average(x)
    assert torch.equal(a["p5"], b["p5"])
    assert not torch.allclose(a["p4"], b["p4"])


def test_r_cnn_levels() -> None:
    backbone = build_backbone(config(MASK_RCNN, RCNN_BUILDER), IMAGE)
    assert isinstance(backbone.top_block, LastLevelMaxPool)
    outputs = backbone(image(1, 3, 64, 96))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "p2": (1, 32, 16, 24),
        "p3": (1, 32, 8, 12),
        "p4": (1, 32, 4, 6),
        "p5": (1, 32, 2, 3),
        "p6": (1, 32, 1, 2),
    }


def test_retinanet_levels() -> None:
    backbone = build_backbone(config(RETINANET, RETINANET_BUILDER), IMAGE)
    assert isinstance(backbone.top_block, LastLevelP6P7)
    outputs = backbone(image(1, 3, 128, 192))
    assert list(outputs) == ["p3", "p4", "p5", "p6", "p7"]
    assert outputs["p3"].shape == (1, 32, 16, 24)
    assert outputs["p7"].shape == (1, 32, 1, 2)


def targets() -> Instances:
    """One annotated box."""
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 20.0, 60.0, 80.0]]))
    instances.gt_classes = torch.tensor([1])
    return instances


@pytest.mark.parametrize(
    ("zoo", "builder"),
    [
        ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", RCNN_BUILDER),
        (RETINANET, RETINANET_BUILDER),
    ],
)
def test_a_detector_trains_on_one_image(zoo: str, builder: str) -> None:
    cfg = config(zoo, builder)
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 64
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).train()
    with EventStorage():
        losses = model([{"image": 50 * image(3, 96, 128) + 120, "instances": targets()}])
    loss = sum(losses.values())
    assert torch.isfinite(loss)
    loss.backward()
    assert not gradients_missing(model.backbone, nonzero=False)
    # The config freezes stem and res2.
    assert not any(p.requires_grad for p in model.backbone.bottom_up.res2.parameters())
    assert all(p.requires_grad for p in model.backbone.bottom_up.res3.parameters())


@pytest.mark.parametrize(("depth", "groups", "width"), [(50, 32, 4), (50, 1, 64), (101, 1, 64)])
def test_deeper_and_grouped_resnets(depth: int, groups: int, width: int) -> None:
    cfg = config(MASK_RCNN, RCNN_BUILDER, depth)
    cfg.MODEL.RESNETS.NORM = "FrozenBN"
    cfg.MODEL.RESNETS.NUM_GROUPS = groups
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = width
    backbone = build_backbone(cfg, IMAGE)
    assert len(backbone.bottom_up.res4) == {50: 6, 101: 23}[depth]
    assert backbone.bottom_up.res3[0].conv2.groups == groups
    # Values of so deep a random network say nothing; that it runs, and the shapes, do.
    with torch.no_grad():
        outputs = backbone(image(1, 3, 64, 64))
    assert [outputs[f"p{j}"].shape[-1] for j in range(2, 7)] == [16, 8, 4, 2, 1]
