"""Mask R-CNN, ResNet-50, 1x."""

from detectron2 import model_zoo

from ..common.coco_schedule import lr_multiplier_1x as lr_multiplier
from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.optim import SGD as optimizer

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.backbone.bottom_up.freeze_at = 2
train.output_dir = "runs/coco/mask_rcnn_r50_fpn_1x"
