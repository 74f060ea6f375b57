"""HTC without its semantic branch, for data without stuff maps, ResNet-50, 1x."""

from ..common.coco_schedule import lr_multiplier_1x as lr_multiplier
from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.htc_without_semantic_r50 import model
from ..common.optim import SGD as optimizer

train.output_dir = "runs/coco/htc_without_semantic_r50_fpn_1x"
