"""Small HTC heads with features, proposals and objects for them."""

from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
)
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from inspire_d2.modeling import FusedSemanticBranch, HTCMaskHead, HTCROIHeads

CHANNELS, CLASSES, SIZE, STUFF = 8, 3, (64, 64), 4
LEVELS = {"p2": 4, "p3": 8, "p4": 16}
IOUS, WEIGHTS = (0.5, 0.6, 0.7), (1.0, 0.5, 0.25)


def pooler(resolution: int, levels: dict[str, int] = LEVELS) -> ROIPooler:
    scales = [1 / stride for stride in levels.values()]
    return ROIPooler(resolution, scales, sampling_ratio=0, pooler_type="ROIAlignV2")


def cascade_arguments() -> dict[str, Any]:
    return {
        "num_classes": CLASSES,
        "batch_size_per_image": 32,
        "positive_fraction": 0.25,
        "box_in_features": list(LEVELS),
        "box_pooler": pooler(7),
        "box_heads": [
            FastRCNNConvFCHead(
                ShapeSpec(channels=CHANNELS, height=7, width=7), conv_dims=[], fc_dims=[16]
            )
            for _ in IOUS
        ],
        "box_predictors": [
            FastRCNNOutputLayers(
                ShapeSpec(channels=16),
                box2box_transform=Box2BoxTransform(weights=(w, w, w / 2, w / 2)),
                num_classes=CLASSES,
                cls_agnostic_bbox_reg=True,
                test_score_thresh=0.05,
            )
            for w in (10, 20, 30)
        ],
        "proposal_matchers": [
            Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in IOUS
        ],
    }


def make_heads(*, masks: bool = True, semantic: bool = False, **options: Any) -> HTCROIHeads:
    torch.manual_seed(0)
    arguments = cascade_arguments() | options
    if masks:
        shape = ShapeSpec(channels=CHANNELS, height=14, width=14)
        arguments["mask_in_features"] = list(LEVELS)
        arguments["mask_pooler"] = pooler(14)
        arguments["mask_heads"] = [
            HTCMaskHead(
                shape, num_classes=CLASSES, conv_dims=[CHANNELS] * 3, takes_previous=stage > 0
            )
            for stage in range(3)
        ]
    if semantic:
        arguments["semantic_branch"] = FusedSemanticBranch(
            in_features=list(LEVELS), fused_feature="p3", channels=CHANNELS, num_classes=STUFF
        )
        arguments["semantic_pooler"] = pooler(14, {"p3": 8})
    heads = HTCROIHeads(**arguments)
    for module in heads.modules():  # predictors that begin near 0 would hide mistakes
        if isinstance(module, FastRCNNOutputLayers):
            torch.nn.init.normal_(module.cls_score.weight, std=0.5)
            torch.nn.init.normal_(module.bbox_pred.weight, std=0.3)
        elif isinstance(module, HTCMaskHead):
            torch.nn.init.normal_(module.predictor.weight, std=0.5)
    return heads


def make_features(images: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        name: torch.randn(images, CHANNELS, SIZE[0] // stride, SIZE[1] // stride)
        for name, stride in LEVELS.items()
    }


OBJECTS = torch.tensor([[4.0, 4, 30, 40], [20, 10, 60, 50], [2, 40, 20, 60]])


def make_targets(counts: tuple[int, ...] = (3, 1)) -> list[Instances]:
    targets = []
    for count in counts:
        target = Instances(SIZE)
        target.gt_boxes = Boxes(OBJECTS[:count].clone())
        target.gt_classes = torch.arange(count)
        masks = torch.zeros(count, *SIZE, dtype=torch.bool)
        for mask, box in zip(masks, OBJECTS.int().tolist(), strict=False):
            mask[box[1] : (box[1] + box[3]) // 2, box[0] : box[2]] = True
        target.gt_masks = BitMasks(masks)
        targets.append(target)
    return targets


def make_proposals(images: int = 2, count: int = 20) -> list[Instances]:
    torch.manual_seed(2)
    proposals = []
    for _ in range(images):
        boxes = OBJECTS.repeat(-(-count // 3), 1)[:count] + 4 * torch.randn(count, 4)
        one = Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(count))
        one.proposal_boxes.clip(SIZE)
        proposals.append(one)
    return proposals


def train(heads: torch.nn.Module, **options: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    with EventStorage():
        return heads.train()(None, make_features(), make_proposals(), make_targets(), **options)[1]


def predict(heads: torch.nn.Module, features: dict | None = None) -> list[Instances]:
    with torch.no_grad():
        return heads.eval()(None, features or make_features(), make_proposals())[0]
