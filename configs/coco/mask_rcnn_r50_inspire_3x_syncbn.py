"""The baseline with FPN replaced by INSPIRE, whose passes share no batch norm.

As the baseline, without Detectron2's TEST.PRECISE_BN.
"""

from inspire_d2.modeling import InspireFPN

from .mask_rcnn_r50_fpn_3x_syncbn import dataloader, lr_multiplier, model, optimizer, train

model.backbone._target_ = InspireFPN
model.backbone.steps = 2
# A batch norm that sees the first and the second pass keeps statistics of neither.
model.backbone.feedback = "separate"
model.backbone.norm = "GN"
train.output_dir = "runs/coco/mask_rcnn_r50_inspire_3x_syncbn"
