"""Starting a run: checks before any process is made, then Detectron2's ``launch``."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from omegaconf import DictConfig
from torch.multiprocessing import ProcessExitedException

from ..errors import InputError

__all__ = ["check_processes", "launch_main", "resolve_device"]

INTERRUPTED = 130


def resolve_device(name: str | None) -> str:
    """Return the device to run on: ``name``, or the GPU if there is one, else the CPU.

    Raises:
        InputError: ``name`` is no device, or a GPU where there is none.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f"train.device={name}: not a device; use cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"train.device={name}: this machine has no GPU that PyTorch can use.")
    return str(device)


def check_processes(args: argparse.Namespace, cfg: DictConfig) -> None:
    """Raise InputError where the processes asked for cannot be started or fed."""
    if args.num_gpus < 1 or args.num_machines < 1:
        raise InputError("--num-gpus and --num-machines must be 1 or more.")
    if not 0 <= args.machine_rank < args.num_machines:
        raise InputError(
            f"--machine-rank {args.machine_rank} is not within 0..{args.num_machines - 1}."
        )
    if args.num_machines > 1 and args.dist_url == "auto":
        raise InputError(
            "--num-machines above 1 needs --dist-url tcp://HOST:PORT, the same on every machine."
        )
    gpus = torch.cuda.device_count()
    if torch.cuda.is_available() and args.num_gpus > gpus:
        raise InputError(f"--num-gpus {args.num_gpus}: this machine has {gpus}.")
    world_size = args.num_gpus * args.num_machines
    batch = cfg.dataloader.train.total_batch_size
    if batch % world_size:
        raise InputError(
            f"dataloader.train.total_batch_size={batch} is not a multiple of the {world_size} "
            "processes asked for."
        )


def launch_main(main: Callable[..., None], args: argparse.Namespace, cfg: DictConfig) -> None:
    """Run ``main(args, cfg)`` in every process; end with its exit code where it fails.

    A wrong input ends with one sentence and code 2, Ctrl-C with code 130.
    """
    try:
        launch(
            _guarded,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args, cfg),
        )
    except ProcessExitedException as error:
        if error.exit_code not in (2, INTERRUPTED):
            print(f"error: a process ended: {error}", file=sys.stderr)
        sys.exit(error.exit_code if error.exit_code > 0 else 1)
    except KeyboardInterrupt:
        # The children have said it.
        sys.exit(INTERRUPTED)


def _guarded(main: Callable[..., None], args: argparse.Namespace, cfg: DictConfig) -> None:
    """Run main, turning wrong input and Ctrl-C into one line and an exit code."""
    world_size = comm.get_world_size()
    if world_size > 1 and not torch.cuda.is_available():
        # Else every process takes every core.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // comm.get_local_size()))
    # Detectron2 logs a traceback of whatever ends a training.
    logging.getLogger("detectron2.engine.train_loop").addFilter(_not_wrong_input)
    try:
        main(args, cfg)
        _leave_group()
    except InputError as error:
        if not comm.is_main_process():
            # What all of them met the main one tells, and the launcher then ends this one; what
            # only this one met, such as a broken image, it tells itself.
            time.sleep(5)
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        if comm.is_main_process():
            print(
                f"interrupted: --resume goes on from the last checkpoint in {cfg.train.output_dir}",
                file=sys.stderr,
                flush=True,
            )
        sys.exit(INTERRUPTED)


def _not_wrong_input(record: logging.LogRecord) -> bool:
    """Keep a log record unless it tells of an InputError, which ends with its own sentence."""
    return not (record.exc_info and isinstance(record.exc_info[1], InputError))


def _leave_group() -> None:
    """End the process group together, where there is one.

    Detectron2 leaves it to the interpreter's exit, which now and then aborts in the group's threads
    while the other processes still use them, after all work is done.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        comm.synchronize()
        torch.distributed.destroy_process_group()
