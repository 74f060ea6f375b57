"""Semantic FPN on a ResNet-18 up to res4: background and one class, for 224 px and a CPU."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor

from inspire_d2.modeling.losses import CrossEntropyDice
from inspire_d2.modeling.semantic_head import SemanticHead

from .mask_rcnn_r18 import model as mask_rcnn

model = L(SemanticSegmentor)(
    backbone=mask_rcnn.backbone,
    sem_seg_head=L(SemanticHead)(
        input_shape={
            f"p{level}": L(ShapeSpec)(stride=2**level, channels="${....backbone.out_channels}")
            for level in (2, 3, 4)
        },
        num_classes=2,
        conv_dims=64,
        common_stride=4,
        norm="GN",
        loss=L(CrossEntropyDice)(dice_weight=1.0, ignore_value=255),
    ),
    pixel_mean=mask_rcnn.pixel_mean,
    pixel_std=mask_rcnn.pixel_std,
)
