"""PraNet's protocol, the baseline: a plain U-Net on a ResNet-50, for a GPU."""

from ..common.models.unet_r18 import model
from .pranet_semantic_fpn_r50_plain import dataloader, lr_multiplier, optimizer, train

model.backbone.bottom_up.stages.depth = 50
model.backbone.bottom_up.stages.stride_in_1x1 = False
model.backbone.bottom_up.out_features = ["stem", "res2", "res3", "res4", "res5"]
model.backbone.in_features = ["stem", "res2", "res3", "res4", "res5"]
model.backbone.widths = [64, 128, 256, 512]
model.sem_seg_head.channels = {"p1": 64, "p2": 128, "p3": 256, "p4": 512}
train.output_dir = "runs/polyp/pranet_unet_r50_plain"
