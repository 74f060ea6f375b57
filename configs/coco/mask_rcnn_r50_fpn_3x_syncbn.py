"""Mask R-CNN with batch norm over all GPUs, ResNet-50, 3x.

Detectron2's yaml also estimates the statistics anew before it scores (TEST.PRECISE_BN); here they
are training's running ones.
"""

from detectron2.config import LazyCall as L

from inspire_d2.modeling.norms import sync_batch_norm_of_rois

from ..common.norms import set_norm
from .mask_rcnn_r50_fpn_3x import dataloader, lr_multiplier, model, optimizer, train

set_norm(model, "SyncBN", roi_norm=L(sync_batch_norm_of_rois)())
train.output_dir = "runs/coco/mask_rcnn_r50_fpn_3x_syncbn"
