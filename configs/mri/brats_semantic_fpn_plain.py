"""The baseline: Semantic FPN on the U-Net's encoder, with its schedule."""

from ..common.models.unet import fpn as _fpn
from ..common.models.unet import semantic_head as _head
from .brats_unet_plain import dataloader, lr_multiplier, model, optimizer, train

_fpn.bottom_up = model.backbone.bottom_up
_head.loss = model.sem_seg_head.loss
model.backbone, model.sem_seg_head = _fpn, _head
train.output_dir = "runs/mri/brats_semantic_fpn_plain"
