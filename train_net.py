#!/usr/bin/env python
"""Train or score a model from a LazyConfig.

One process, on the GPU if there is one, else on the CPU:

    python train_net.py --config-file configs/polyp/mask_rcnn_r18_inspire.py

Eight GPUs of one machine (or, without a GPU, that many CPU processes):

    python train_net.py --num-gpus 8 --config-file configs/polyp/mask_rcnn_r50_inspire.py

Two machines of eight GPUs under Slurm, which restarts it where it was stopped (docs/cluster.md):

    srun --nodes 2 --ntasks-per-node 1 --gpus-per-node 8 --kill-on-bad-exit=1 \\
        python train_net.py --slurm --num-gpus 8 --config-file FILE

The same without Slurm, on each with its own rank:

    python train_net.py --num-gpus 8 --num-machines 2 --machine-rank 0 \\
        --dist-url tcp://HOST:PORT --config-file configs/polyp/mask_rcnn_r50_inspire.py

Go on after an interruption; score a run's last checkpoint, or any other:

    python train_net.py --resume --config-file runs/NAME/config.yaml
    python train_net.py --eval-only --config-file runs/NAME/config.yaml
    python train_net.py --eval-only --config-file runs/NAME/config.yaml train.init_checkpoint=FILE
    python train_net.py --eval-only --config-file runs/NAME/config.yaml \\
        --checkpoint 'runs/NAME/model_*.pth'

Whatever follows the flags overrides the config: train.max_iter=1000 model.backbone.steps=1
"""

import argparse
import copy
import functools
import os
from typing import TYPE_CHECKING

from inspire_d2.engine.arguments import argument_parser
from inspire_d2.engine.signals import stop_signals
from inspire_d2.engine.slurm import Start, requeue_when_stopped, slurm_task
from inspire_d2.errors import InputError, exit_on_input_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

# What takes seconds to import waits until the command line has been read.


def main(args: argparse.Namespace, cfg: "DictConfig") -> None:
    """Train, or score with --eval-only, in one process of those launched."""
    from detectron2.utils import comm

    from inspire_d2.engine.config import save_config
    from inspire_d2.engine.device import resolve_device
    from inspire_d2.engine.precision import fit_to_device
    from inspire_d2.engine.run_lock import keep_rank_lock
    from inspire_d2.engine.run_setup import set_up_run
    from inspire_d2.engine.scoring import score_checkpoints
    from inspire_d2.engine.trainer import run_evaluation, run_training

    logger = set_up_run(cfg, args)
    for line in args.ranks if len(args.ranks) > 1 else ():
        logger.info(line)
    device = resolve_device(cfg.train.device)
    if not args.eval_only:
        fit_to_device(cfg.train, device)
    config_file = os.path.join(cfg.train.output_dir, "config.yaml")
    save = functools.partial(save_config, copy.deepcopy(cfg), config_file)
    # The run's own config is replaced by one that it goes on with, not by one that it refuses, and
    # that of earlier scores with them.
    goes_on = args.eval_only or (args.resume and os.path.isfile(config_file))
    if comm.is_main_process() and comm.get_world_size() > 1:
        keep_rank_lock(cfg.train.output_dir)
    if comm.is_main_process() and not goes_on:
        save()
    cfg.train.device = device
    if args.eval_only and args.checkpoints:
        score_checkpoints(cfg, args.checkpoints)
    elif args.eval_only:
        run_evaluation(cfg, args.init_checkpoint, ready=save)
    else:
        run_training(cfg, resume=args.resume, ready=save if goes_on else None)


def prepare(args: argparse.Namespace, start: Start) -> "DictConfig":
    """Load the config and check everything that can be checked before a model is built.

    ``start`` is told of the run's folder as soon as that is known.
    """
    from inspire_d2.engine.checks import check_datasets
    from inspire_d2.engine.config import is_overridden, load_config
    from inspire_d2.engine.config_yaml import check_saveable
    from inspire_d2.engine.device import resolve_device
    from inspire_d2.engine.launch import check_processes
    from inspire_d2.engine.run_start import check_output_dir, check_resume, find_checkpoint
    from inspire_d2.engine.scoring import find_checkpoints
    from inspire_d2.engine.train_options import check_train_options
    from inspire_d2.model_zoo import find_config

    args.config_file = find_config(args.config_file)  # Detectron2's set-up logs the file, too
    cfg = load_config(args.config_file, args.opts)
    check_saveable(cfg)
    check_train_options(cfg)
    # A score's log and config stand beside its results, not over those of the training.
    scores_dir = os.path.join(cfg.train.output_dir, "evaluation")
    start.watch(scores_dir if args.eval_only else cfg.train.output_dir)
    resolve_device(cfg.train.device)
    check_processes(args, cfg)
    if args.resume and not args.eval_only:
        check_resume(cfg, args.config_file, args.opts)
    if args.slurm_task and args.slurm_task.restarts and not args.eval_only:
        args.resume = True
    if args.checkpoint and not args.eval_only:
        raise InputError(
            "--checkpoint goes with --eval-only; to start from one, set train.init_checkpoint=FILE."
        )
    args.checkpoints = find_checkpoints(args.checkpoint)
    named = is_overridden("train.init_checkpoint", args.opts)
    if args.checkpoints and named:
        raise InputError("--checkpoint and train.init_checkpoint=: give one of them.")
    if not args.checkpoints:
        args.init_checkpoint = find_checkpoint(
            cfg, eval_only=args.eval_only, resume=args.resume, named=named
        )
        if args.eval_only:
            cfg.train.init_checkpoint = args.init_checkpoint  # its config says what was scored
    check_datasets(cfg, ("test",) if args.eval_only else ("train", "test"))
    if args.eval_only:
        cfg.train.output_dir = scores_dir
    check_output_dir(cfg.train.output_dir, resume=args.resume or args.eval_only)
    return cfg


if __name__ == "__main__":
    arguments = argument_parser(epilog=__doc__).parse_args()
    stop_signals.install()
    with exit_on_input_error():
        arguments.slurm_task = slurm_task() if arguments.slurm else None
        with requeue_when_stopped(arguments.slurm_task) as start:
            with stop_signals.outweigh_errors():
                config = prepare(arguments, start)

            from inspire_d2.engine.launch import launch_main
            from inspire_d2.engine.run_lock import run_lock
            from inspire_d2.engine.run_start import check_output_dir

            with run_lock(config.train.output_dir, arguments):
                # What was waited for may have saved a checkpoint meanwhile.
                resume = arguments.resume or arguments.eval_only
                check_output_dir(config.train.output_dir, resume=resume)
                launch_main(main, arguments, config)
