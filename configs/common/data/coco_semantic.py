"""COCO 2017's stuff, and things as one more class."""

from detectron2.config import LazyCall as L
from detectron2.evaluation import SemSegEvaluator

from .coco import dataloader

dataloader.train.dataset.names = "coco_2017_train_panoptic_stuffonly"
dataloader.train.dataset.filter_empty = False
# Detectron2's entries of these sets do not tell an image's size.
dataloader.train.aspect_ratio_grouping = False
dataloader.train.mapper.use_instance_mask = False
dataloader.test.dataset.names = "coco_2017_val_panoptic_stuffonly"
dataloader.evaluator = L(SemSegEvaluator)(
    dataset_name="${dataloader.test.dataset.names}", output_dir="${train.output_dir}"
)
