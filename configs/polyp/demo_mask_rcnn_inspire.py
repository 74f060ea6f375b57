"""The demo: a small Mask R-CNN + INSPIRE from random weights, minutes on two CPU cores.

Random weights need GroupNorm: FrozenBN's fixed statistics would let activations diverge.
"""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.resnet import BasicBlock, ResNet

from inspire_d2.modeling import InspireFPN

from ..common.data.polyp import dataloader
from ..common.models.mask_rcnn_r18 import model
from ..common.optim import AdamW as optimizer
from ..common.schedule import cosine as lr_multiplier
from ..common.train import train

model.backbone._target_ = InspireFPN
model.backbone.steps = 2
model.backbone.out_channels = 64
model.backbone.bottom_up.stem.norm = "GN"
# ResNet-18's stages with one block instead of two
model.backbone.bottom_up.stages = [
    L(ResNet.make_stage)(
        block_class=BasicBlock,
        num_blocks=1,
        stride_per_block=[stride],
        in_channels=in_channels,
        out_channels=out_channels,
        norm="GN",
    )
    for stride, in_channels, out_channels in ((1, 64, 64), (2, 64, 128), (2, 128, 256))
]
model.backbone.bottom_up.freeze_at = 0
model.proposal_generator.anchor_generator.sizes = [[10, 16], [26, 40], [60, 88]]
model.proposal_generator.batch_size_per_image = 64
model.roi_heads.batch_size_per_image = 32
model.roi_heads.box_head.fc_dims = [256, 256]
model.roi_heads.box_predictor.input_shape.channels = 256
model.roi_heads.mask_head.conv_dims = [64, 64, 64]

dataloader.train.dataset.name = "synthetic_polyps_train"
dataloader.test.dataset.name = "synthetic_polyps_val"
dataloader.train.mapper.augmentations[0].update(short_edge_length=(128,), max_size=192)
dataloader.test.mapper.augmentations[0].update(short_edge_length=128, max_size=192)
dataloader.train.total_batch_size = 8

# All of it starts from random weights: one rate for the bottom-up and the rest.
optimizer.params.lr_factor_func = None
optimizer.lr = 1e-3

train.output_dir = "runs/demo"
train.max_iter = 350
train.checkpointer.period = 100
train.tta.wrapper.update(short_edge_lengths=(96, 128, 160), max_size=240)
