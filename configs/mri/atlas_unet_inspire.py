"""The plain U-Net's decoder replaced by INSPIRE, on the same encoder, and nothing else changed.

The plain one ends with two convolutions; so does INSPIRE, in the head.
"""

from ..common.models.unet import decoder as _decoder
from .atlas_unet_plain import dataloader, lr_multiplier, model, optimizer, train

_decoder.bottom_up = model.backbone.bottom_up
model.backbone = _decoder
model.sem_seg_head.channels = "${..backbone.out_channels}"
model.sem_seg_head.num_convs = 2
train.output_dir = "runs/mri/atlas_unet_inspire"
