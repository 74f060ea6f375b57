"""PraNet's protocol, the baseline: Semantic FPN on a ResNet-50, for a GPU.

900 images of Kvasir-SEG and 550 of CVC-ClinicDB to train on, five test sets, 352x352 px.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from ..common.models.semantic_fpn_r18 import model
from .semantic_fpn_r18_plain import dataloader, lr_multiplier, optimizer, train

model.backbone.bottom_up.stages.depth = 50
# as in torchvision's ResNet-50, which tools/convert_torchvision.py converts
model.backbone.bottom_up.stages.stride_in_1x1 = False
model.backbone.bottom_up.out_features = ["res2", "res3", "res4", "res5"]
model.backbone.in_features = ["res2", "res3", "res4", "res5"]
model.sem_seg_head.input_shape.p5 = L(ShapeSpec)(stride=32, channels="${....backbone.out_channels}")

dataloader.train.dataset.name = "pranet_train"
# all five, each with a row of its own in the table; one alone is pranet_test_CVC-300, and so on
dataloader.test.dataset.name = "pranet_test"
# squares, then PraNet's three scales in multiples of 32
dataloader.train.mapper.augmentations[0] = L(T.Resize)(shape=(352, 352))
dataloader.train.mapper.augmentations.insert(
    1, L(T.ResizeShortestEdge)(short_edge_length=(256, 352, 448), sample_style="choice")
)
dataloader.test.mapper.augmentations = [L(T.Resize)(shape=(352, 352))]
dataloader.train.total_batch_size = 16
dataloader.train.num_workers = 4

# PraNet's rate of Adam, 1e-4 for all, is the bottom-up's here
optimizer.lr = 4e-4
optimizer.params.lr_factor_func.factor = 0.25
train.output_dir = "runs/polyp/pranet_semantic_fpn_r50_plain"
train.init_checkpoint = "weights/r50_imagenet_d2.pkl"
# 1450 images / 16 = 91 iterations an epoch; 40 epochs
train.max_iter = 3640
train.checkpointer.period = 910
