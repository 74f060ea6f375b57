"""The baseline: a plain U-Net for low-grade glioma, LGG/TCGA; T1, FLAIR, T1 with contrast."""

from .brats_unet_plain import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.in_channels = 3
model.sem_seg_head.loss.regions = {"tumour": [1]}
dataloader.train.dataset.name = "lgg_train"
dataloader.test.dataset.name = "lgg_val"
# 88 patients of 110, 16 patches an iteration: 909 patches of each
train.max_iter = 5000
train.output_dir = "runs/mri/lgg_unet_plain"
