"""COCO with large-scale jitter: sizes from a tenth to twice, on a canvas of 1024 x 1024."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .coco import dataloader

dataloader.train.mapper.augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=1024, target_width=1024),
    L(T.FixedSizeCrop)(crop_size=(1024, 1024)),
    L(T.RandomFlip)(horizontal=True),
]
# cropping leaves parts of objects
dataloader.train.mapper.recompute_boxes = True
dataloader.train.total_batch_size = 64
