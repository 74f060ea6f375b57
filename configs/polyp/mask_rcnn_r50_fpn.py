"""Mask R-CNN + FPN, ResNet-50, PolypGen, for 8 GPUs."""

from detectron2 import model_zoo

from ..common.data.polyp import dataloader
from ..common.optim import SGD as optimizer
from ..common.schedule import cosine as lr_multiplier
from ..common.train import train

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.roi_heads.num_classes = 1
# The stem and res2 stay ImageNet's, as on COCO
model.backbone.bottom_up.freeze_at = 2

dataloader.train.mapper.image_format = "BGR"
dataloader.train.mapper.augmentations[0].short_edge_length = (320, 384, 448, 512, 576)
dataloader.train.mapper.augmentations[0].max_size = 800
dataloader.test.mapper.augmentations[0].update(short_edge_length=448, max_size=800)
# 2 images a GPU x 8 GPUs; SGD's 0.02 is Detectron2's rate for 16 images
dataloader.train.total_batch_size = 16
dataloader.train.num_workers = 4
train.lr_scaling.batch_size = 16

train.output_dir = "runs/polyp/mask_rcnn_r50_fpn"
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
# 1449 training images / 16 = 91 iterations an epoch; 33 epochs
train.max_iter = 3000
train.amp.enabled = True
train.tta.wrapper.update(short_edge_lengths=(320, 384, 448, 512, 576), max_size=800)
