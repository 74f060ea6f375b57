"""The baseline: a plain U-Net for stroke lesions, ATLAS v2; T1."""

from .brats_unet_plain import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.in_channels = 1
model.sem_seg_head.loss.regions = {"lesion": [1]}
dataloader.train.dataset.name = "atlas_train"
dataloader.test.dataset.name = "atlas_val"
# 524 volumes of 655, 16 patches an iteration: 611 patches of each
train.output_dir = "runs/mri/atlas_unet_plain"
