"""Polyp segmentation: PolypGen's polyps as one class, by hospital, longest side 224 px."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from inspire_d2.data.semantic import SemanticMapper

from .polyp import dataloader

dataloader.train.mapper = L(SemanticMapper)(
    is_train=True,
    augmentations=[
        L(T.ResizeShortestEdge)(short_edge_length=224, max_size=224),
        L(T.RandomFlip)(horizontal=True, vertical=False),
        L(T.RandomFlip)(horizontal=False, vertical=True),
        L(T.RandomBrightness)(intensity_min=0.8, intensity_max=1.2),
        L(T.RandomContrast)(intensity_min=0.8, intensity_max=1.2),
    ],
    image_format="RGB",
)
dataloader.train.total_batch_size = 8
dataloader.test.mapper.augmentations[0].update(short_edge_length=224, max_size=224)
# A map has no boxes to give an AP.
dataloader.evaluator.evaluators = dataloader.evaluator.evaluators[1:]
