"""COCO's schedules, of batches of 16: Detectron2's 1x and 3x, and HTC's 20 epochs."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

_zoo = model_zoo.get_config("common/coco_schedule.py")
lr_multiplier_1x = _zoo.lr_multiplier_1x  # 90000 iterations, 12 epochs
lr_multiplier_3x = _zoo.lr_multiplier_3x  # 270000 iterations, 37 epochs

# 117266 images with objects / 16 = 7330 iterations an epoch, 146600 in all; the rate falls to a
# tenth after 16 epochs and again after 19.
lr_multiplier_20e = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=[16, 19, 20]),
    warmup_length=1000 / 146600,
    warmup_method="linear",
    warmup_factor=0.001,
)
