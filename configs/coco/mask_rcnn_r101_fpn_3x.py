"""Mask R-CNN, ResNet-101, 3x."""

from .mask_rcnn_r50_fpn_3x import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages.depth = 101
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
train.output_dir = "runs/coco/mask_rcnn_r101_fpn_3x"
