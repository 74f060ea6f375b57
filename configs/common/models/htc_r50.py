"""Hybrid Task Cascade on a ResNet-50: COCO's 53 kinds of stuff, and things as one class."""

from detectron2.config import LazyCall as L
from detectron2.modeling.poolers import ROIPooler

from inspire_d2.modeling import FusedSemanticBranch, HybridTaskCascade

from .htc_without_semantic_r50 import model

model._target_ = HybridTaskCascade
model.roi_heads.semantic_branch = L(FusedSemanticBranch)(
    in_features=["p2", "p3", "p4", "p5", "p6"],
    fused_feature="p3",
    channels=256,
    num_classes=54,
    loss_weight=0.2,
)
model.roi_heads.semantic_pooler = L(ROIPooler)(
    output_size=14, scales=(1 / 8,), sampling_ratio=0, pooler_type="ROIAlignV2"
)
