"""The baseline: Semantic FPN, ResNet-18, PolypGen; minutes on 2 CPU cores."""

from ..common.data.polyp_semantic import dataloader
from ..common.models.semantic_fpn_r18 import model
from ..common.optim import AdamW as optimizer
from ..common.schedule import cosine as lr_multiplier
from ..common.train import train

train.output_dir = "runs/polyp/semantic_fpn_r18_plain"
train.init_checkpoint = "weights/r18_imagenet_d2.pkl"
# Chosen with FPN, on centre C6, from 4e-4 and 1.6e-3 (docs/findings.md); the bottom-up keeps 1e-4
optimizer.lr = 1.6e-3
optimizer.params.lr_factor_func.factor = 1 / 16
# 1449 images: 250 iterations x 8 are 1.4 epochs
train.max_iter = 250
train.checkpointer.period = 125
# bfloat16 and channels-last maps: faster on a CPU that has bfloat16 instructions
train.amp.enabled = True
train.channels_last = True
