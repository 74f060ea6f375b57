"""Mask R-CNN with batch norm over all GPUs, ResNet-50, 3x."""

from detectron2.config import LazyCall as L

from inspire_d2.modeling.norms import sync_batch_norm_of_rois

from .mask_rcnn_r50_fpn_3x import dataloader, lr_multiplier, model, optimizer, train

bottom_up = model.backbone.bottom_up
for part in (bottom_up.stem, bottom_up.stages, model.backbone):
    part.norm = "SyncBN"
# Detectron2's heads for training with a norm: 4 convolutions and one linear layer
model.roi_heads.box_head.conv_dims = [256, 256, 256, 256]
model.roi_heads.box_head.fc_dims = [1024]
for kind in ("box", "mask"):
    model.roi_heads[f"{kind}_head"].conv_norm = L(sync_batch_norm_of_rois)()
train.output_dir = "runs/coco/mask_rcnn_r50_fpn_3x_syncbn"
