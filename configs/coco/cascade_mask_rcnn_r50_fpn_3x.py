"""Cascade Mask R-CNN, ResNet-50, 3x."""

from ..common.coco_schedule import lr_multiplier_3x as lr_multiplier
from .cascade_mask_rcnn_r50_fpn_1x import dataloader, model, optimizer, train

# 270000 x 16 images: 37 epochs
train.max_iter = 270000
train.output_dir = "runs/coco/cascade_mask_rcnn_r50_fpn_3x"
