"""COCO for HTC: instances and stuff maps to train on, instances to score."""

from .coco import dataloader

dataloader.train.dataset.names = "coco_2017_train_panoptic_separated"
