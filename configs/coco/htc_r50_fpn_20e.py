"""HTC, ResNet-50, 20 epochs, short sides from 600 to 900."""

from ..common.coco_schedule import lr_multiplier_20e as lr_multiplier
from ..common.tta import seven_scales as _seven_scales
from .htc_r50_fpn_1x import dataloader, model, optimizer, train

dataloader.train.mapper.augmentations[0].update(
    short_edge_length=(600, 900), sample_style="range", max_size=1600
)
# 20 epochs x 7330 iterations
train.max_iter = 146600
train.tta.wrapper = _seven_scales
train.output_dir = "runs/coco/htc_r50_fpn_20e"
