"""HTC, ResNeXt-101 32x8d, 20 epochs."""

from ..common.models.resnext101 import init_checkpoint, pixel_std, stages
from .htc_r50_fpn_20e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages = stages
model.pixel_std = pixel_std
train.init_checkpoint = init_checkpoint
train.output_dir = "runs/coco/htc_x101_fpn_20e"
