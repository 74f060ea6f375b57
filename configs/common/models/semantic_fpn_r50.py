"""Semantic FPN, ResNet-50: Panoptic FPN's semantic half, COCO's 53 kinds of stuff and things."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor

panoptic = model_zoo.get_config("common/models/panoptic_fpn.py").model

model = L(SemanticSegmentor)(
    backbone=panoptic.backbone,
    sem_seg_head=panoptic.sem_seg_head,
    pixel_mean=panoptic.pixel_mean,
    pixel_std=panoptic.pixel_std,
)
model.sem_seg_head.loss_weight = 1.0
model.backbone.bottom_up.freeze_at = 2
