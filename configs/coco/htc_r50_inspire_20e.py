"""The baseline with FPN replaced by INSPIRE, and nothing else changed."""

from inspire_d2.modeling import InspireFPN

from .htc_r50_fpn_20e import dataloader, lr_multiplier, model, optimizer, train

model.backbone._target_ = InspireFPN
model.backbone.steps = 2
train.output_dir = "runs/coco/htc_r50_inspire_20e"
