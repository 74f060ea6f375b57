"""Optimizers; `params.model` is set when the model is built."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params

from inspire_d2.engine.optim import bottom_up_lr

# The bottom-up, pretrained, moves at a quarter of the rate of the rest, unless a config says
# otherwise; INSPIRE's parts may have a rate of their own (docs/findings.md, Mask R-CNN).
AdamW = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(
        base_lr="${..lr}",
        weight_decay_norm=0.0,
        lr_factor_func=L(bottom_up_lr)(factor=0.25, inspire=1.0),
    ),
    lr=4e-4,
    betas=(0.9, 0.999),
    weight_decay=0.05,
)

SGD = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(weight_decay_norm=0.0),
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
)
