"""Every switch of a run, with its meaning. Derived configs set what differs."""

from .tta import detectron2_scales

train = dict(
    # where the log, metrics.json, config.yaml, checkpoints and evaluation go
    output_dir="runs/unnamed",
    # weights to start from: a file, a detectron2:// or catalog:// address; "" for random ones
    init_checkpoint="",
    # allow_partial: go on when a checkpoint leaves the bottom-up incomplete, or has other tensors
    checkpoint=dict(allow_partial=False),
    max_iter=1000,
    # multiply optimizer.lr by total_batch_size / batch_size (linear rule); None leaves it as it is
    lr_scaling=dict(enabled=True, batch_size=None),
    # of weights, data order and augmentation; -1 takes a new one each time
    seed=0,
    # None takes the GPU if there is one, else the CPU
    device=None,
    # mixed precision: float16 on GPUs, bfloat16 on CPUs (scoring stays in float32)
    amp=dict(enabled=False),
    # keep maps channels last in memory: faster on CPUs with AVX-512, and on GPUs with amp
    channels_last=False,
    # of torch's DistributedDataParallel, where there is more than one process
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False),
    # processes: the port they meet at (None takes a free one), nccl or gloo (None takes nccl on
    # GPUs), seconds after which one that does not answer ends the run
    dist=dict(port=None, backend=None, timeout_s=1800),
    # a checkpoint every `period` iterations, the newest `max_to_keep` kept (0 keeps all)
    checkpointer=dict(period=500, max_to_keep=3),
    # iterations between evaluations; 0 evaluates at the end alone
    eval_period=0,
    # --eval-only of R-CNNs on several sizes of an image, and flipped; tta.py holds other presets
    tta=dict(enabled=False, wrapper=detectron2_scales),
    # iterations between lines of the log
    log_period=20,
)
