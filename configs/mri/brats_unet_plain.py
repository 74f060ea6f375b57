"""The baseline: a plain U-Net for brain tumours, BraTS; T1, T1 with contrast, T2, FLAIR."""

from ..common.data.mri import dataloader
from ..common.models.unet import model
from ..common.optim import AdamW as optimizer
from ..common.schedule import cosine as lr_multiplier
from ..common.train import train

model.backbone.bottom_up.in_channels = 4
# whole tumour, tumour core, enhancing tumour, which is labelled 4, or 3 from 2023 on
model.sem_seg_head.loss.regions = {"WT": [1, 2, 3, 4], "TC": [1, 3, 4], "ET": [3, 4]}

# random at first, all parts learn at one rate
optimizer.lr = 1e-3
optimizer.params.lr_factor_func.factor = 1.0
train.lr_scaling.batch_size = 16
# 295 volumes of BraTS 2020's 369, 16 patches an iteration: 1085 patches of each
train.max_iter = 20000
train.checkpointer.period = 1000
train.output_dir = "runs/mri/brats_unet_plain"
