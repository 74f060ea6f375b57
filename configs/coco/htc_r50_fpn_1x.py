"""HTC, ResNet-50, 1x."""

from ..common.coco_schedule import lr_multiplier_1x as lr_multiplier
from ..common.coco_train import train
from ..common.data.coco_htc import dataloader
from ..common.models.htc_r50 import model
from ..common.optim import SGD as optimizer

train.output_dir = "runs/coco/htc_r50_fpn_1x"
