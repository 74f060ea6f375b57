"""Mask R-CNN with GroupNorm everywhere, ResNet-50, 3x."""

from ..common.norms import set_norm
from .mask_rcnn_r50_fpn_3x import dataloader, lr_multiplier, model, optimizer, train

set_norm(model, "GN", roi_norm="GN")
model.backbone.bottom_up.stages.stride_in_1x1 = False
train.init_checkpoint = "catalog://ImageNetPretrained/FAIR/R-50-GN"
train.output_dir = "runs/coco/mask_rcnn_r50_fpn_3x_gn"
