"""HTC, ResNet-101, 20 epochs."""

from .htc_r50_fpn_20e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages.depth = 101
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
train.output_dir = "runs/coco/htc_r101_fpn_20e"
