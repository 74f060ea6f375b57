"""HTC, ResNet-50, 20 epochs, short sides from 400 to 1200."""

from .htc_r50_fpn_20e import dataloader, lr_multiplier, model, optimizer, train

dataloader.train.mapper.augmentations[0].update(
    short_edge_length=(400, 1200), sample_style="range", max_size=1600
)
train.output_dir = "runs/coco/htc_r50_fpn_20e_ms400_1200"
