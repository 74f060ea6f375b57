"""The plain U-Net's decoder replaced by INSPIRE, on the same encoder, and nothing else changed.

The plain one ends with two convolutions; so does INSPIRE, in the head.
"""

from ..common.models.unet_r18 import decoder as _decoder
from .unet_r18_plain import dataloader, lr_multiplier, model, optimizer, train

model.backbone = _decoder
model.sem_seg_head.channels = "${..backbone.out_channels}"
model.sem_seg_head.num_convs = 2
train.output_dir = "runs/polyp/unet_r18_inspire"
