"""Mask R-CNN with GroupNorm everywhere, ResNet-50, 3x."""

from .mask_rcnn_r50_fpn_3x import dataloader, lr_multiplier, model, optimizer, train

bottom_up = model.backbone.bottom_up
bottom_up.stages.stride_in_1x1 = False
for part in (bottom_up.stem, bottom_up.stages, model.backbone):
    part.norm = "GN"
# Detectron2's heads for training with a norm: 4 convolutions and one linear layer
model.roi_heads.box_head.conv_dims = [256, 256, 256, 256]
model.roi_heads.box_head.fc_dims = [1024]
for kind in ("box", "mask"):
    model.roi_heads[f"{kind}_head"].conv_norm = "GN"
train.init_checkpoint = "detectron2://ImageNetPretrained/FAIR/R-50-GN.pkl"
train.output_dir = "runs/coco/mask_rcnn_r50_fpn_3x_gn"
