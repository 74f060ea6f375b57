"""The baseline: a plain U-Net on a ResNet-18, PolypGen, trained as Semantic FPN is."""

from ..common.models.unet_r18 import model
from .semantic_fpn_r18_plain import dataloader, lr_multiplier, optimizer, train

train.output_dir = "runs/polyp/unet_r18_plain"
