"""A run on COCO: 1x, from ImageNet's ResNet-50; derived configs set what differs."""

from .train import train

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.max_iter = 90000
train.checkpointer.period = 5000
# the optimizer's rate is for 16 images
train.lr_scaling.batch_size = 16
