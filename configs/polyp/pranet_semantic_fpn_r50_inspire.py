"""The baseline with FPN replaced by INSPIRE, and nothing else changed."""

from inspire_d2.modeling import InspireFPN

from .pranet_semantic_fpn_r50_plain import dataloader, lr_multiplier, model, optimizer, train

model.backbone._target_ = InspireFPN
model.backbone.steps = 2
train.output_dir = "runs/polyp/pranet_semantic_fpn_r50_inspire"
