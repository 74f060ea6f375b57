"""Mask R-CNN from scratch with large-scale jitter, ResNet-50, 100 epochs."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from inspire_d2.modeling.norms import sync_batch_norm_of_rois

from ..common.coco_train import train
from ..common.data.coco_lsj import dataloader
from ..common.optim import SGD as optimizer

# Detectron2's recipe, 184375 iterations x 64 images, but for its lambda, which cannot be saved
_zoo = model_zoo.get_config("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py")
model, lr_multiplier = _zoo.model, _zoo.lr_multiplier
for _head in (model.roi_heads.box_head, model.roi_heads.mask_head):
    _head.conv_norm = L(sync_batch_norm_of_rois)()
optimizer.update(lr=0.1, weight_decay=4e-5)
train.update(init_checkpoint="", max_iter=184375)
train.lr_scaling.batch_size = 64
train.amp.enabled = True
train.ddp.fp16_compression = True
train.output_dir = "runs/coco/mask_rcnn_r50_fpn_100ep_lsj"
