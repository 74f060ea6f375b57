"""The demo's detector on smaller images, for eight iterations, with a schedule that can hold it."""

from detectron2.config import LazyCall as L
from hold import HoldingSchedule

from ....configs.polyp.demo_mask_rcnn_inspire import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

__all__ = ["dataloader", "lr_multiplier", "model", "optimizer", "train"]

lr_multiplier = L(HoldingSchedule)(schedule=lr_multiplier, folder="", at=0.5)

for split, short_edge_length in (("train", (64,)), ("test", 64)):
    dataloader[split].mapper.augmentations[0].short_edge_length = short_edge_length
    # Slurm's signals reach workers, too.
    dataloader[split].num_workers = 1
dataloader.train.total_batch_size = 4
# Seconds of each process to import; test_training.py scores with it.
dataloader.evaluator.evaluators[1].protocol = False

train.max_iter = 8
train.log_period = 1
train.checkpointer.period = 3
