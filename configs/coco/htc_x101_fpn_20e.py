"""HTC, ResNeXt-101 32x8d, 20 epochs."""

from ..common.models.resnext101 import use_resnext101
from .htc_r50_fpn_20e import dataloader, lr_multiplier, model, optimizer, train

use_resnext101(model, train)
train.output_dir = "runs/coco/htc_x101_fpn_20e"
