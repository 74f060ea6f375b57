"""Starting a run: checks before any process is made, then Detectron2's ``launch``."""

import argparse
import functools
import logging
import multiprocessing
import os
import re
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from omegaconf import DictConfig
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..errors import InputError
from .config import config_digest
from .device import parse_device
from .dist import backend_of, check_dist, dist_options, on_cpu
from .failures import tells_of_full_disk
from .group import check_group
from .rendezvous import Machines, meet
from .signals import INTERRUPTED, RESUME_ME, forward_signals, stop_signals

__all__ = ["check_processes", "launch_main"]

# The exit code of a process that has told its error.
FAILED = 1
# So long a process waits for another, or its launcher on a busy machine, to tell an error first.
PATIENCE_S = 10
# How gloo, NCCL and the store tell that another process is gone.
LOST = re.compile(
    r"closed by peer|reset by peer|Broken pipe|remote process exited|heartbeat|"
    r"Socket Timeout|recvValue failed|sendBytes failed",
    re.IGNORECASE,
)


def check_processes(args: argparse.Namespace, cfg: DictConfig) -> None:
    """Raise InputError where the processes asked for cannot be started or fed.

    Machines are those of ``args.slurm_task``, where there is one.
    """
    if args.slurm_task:
        args.num_machines, args.machine_rank = args.slurm_task.num_machines, args.slurm_task.rank
    if args.num_gpus < 1 or args.num_machines < 1:
        raise InputError("--num-gpus and --num-machines must be 1 or more.")
    if not 0 <= args.machine_rank < args.num_machines:
        raise InputError(
            f"--machine-rank {args.machine_rank} is not within 0..{args.num_machines - 1}."
        )
    if args.num_machines > 1 and args.dist_url == "auto" and not args.slurm_task:
        raise InputError(
            "--num-machines above 1 needs --dist-url tcp://HOST:PORT, the same on every machine."
        )
    parse_device(cfg.train.get("device") or "cpu", args.num_gpus)
    check_dist(cfg)
    if backend_of(cfg) == "nccl" and not torch.cuda.is_available():
        raise InputError("train.dist.backend=nccl: this machine has no GPU that PyTorch can use.")
    gpus = torch.cuda.device_count()
    if torch.cuda.is_available() and args.num_gpus > gpus:
        raise InputError(f"--num-gpus {args.num_gpus}: this machine has {gpus}.")
    world_size = args.num_gpus * args.num_machines
    batch = cfg.dataloader.train.total_batch_size
    if not args.eval_only and batch % world_size:
        raise InputError(
            f"dataloader.train.total_batch_size={batch} is not a multiple of the {world_size} "
            "processes asked for."
        )


def launch_main(main: Callable[..., None], args: argparse.Namespace, cfg: DictConfig) -> None:
    """Run ``main(args, cfg)`` in every process; end with its exit code where it fails.

    A wrong input ends with one sentence and code 2, Ctrl-C with code 130, a run that a signal
    stopped and that may go on with code 75.
    """
    if args.num_gpus * args.num_machines == 1:
        _guarded(main, args, cfg)
        return
    dist = dist_options(cfg)
    task = args.slurm_task
    layout = f"{args.num_machines} x {args.num_gpus}"
    identity = f"{task.token if task else 'no job'} {layout} {config_digest(cfg)}"
    folder = os.path.join(cfg.train.output_dir, f".rendezvous-{task.token}") if task else ""
    machines = Machines(
        count=args.num_machines,
        rank=args.machine_rank,
        identity=identity,
        address="" if args.dist_url == "auto" else args.dist_url,
        port=dist.port or 0,
        folder=folder,
        timeout_s=dist.timeout_s,
    )
    # Of processes that end because another one has, which that one explains.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    with meet(machines) as url, forward_signals() as asked:
        try:
            launch(
                _Process(main, identity, backend_of(cfg)),
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=url,
                args=(args, cfg),
                timeout=timedelta(seconds=dist.timeout_s),
            )
        except ProcessExitedException as error:
            stop_signals.ending = True
            sys.exit(_exit_code(error, asked.requested, args.machine_rank * args.num_gpus))
        except ProcessRaisedException as error:
            stop_signals.ending = True
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


def _exit_code(error: ProcessExitedException, asked: int, first_rank: int) -> int:
    """Return the launcher's exit code for the first process that ended with an error, and tell."""
    if error.exit_code in (2, FAILED, RESUME_ME, INTERRUPTED):
        # It has said itself what there is to say.
        return error.exit_code
    if asked:
        return asked  # the signal came before the process could take note of it
    rank = first_rank + error.error_index
    print(f"error: rank {rank} on {socket.gethostname()} ended: {error}", file=sys.stderr)
    return FAILED


class _Process:
    """What each process does: take its place in the run, check it, and call main."""

    def __init__(self, main: Callable[..., None], identity: str, backend: str | None) -> None:
        self._main, self._identity, self._backend = main, identity, backend
        self._launcher = os.getpid()
        self._start_method = multiprocessing.get_start_method()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # In a spawned process this is what runs before Detectron2's launch makes the group.
        self.__dict__.update(state)
        torch.distributed.init_process_group = functools.partial(
            self._init_process_group, torch.distributed.init_process_group
        )

    def _init_process_group(self, init: Callable[..., None], backend: str, **options: Any) -> None:
        """Make the group, with the backend that is wanted, unless the launcher ends meanwhile.

        Detectron2's launch takes no backend: it chooses by whether there is a GPU. Without the
        launcher, which keeps the store, a process would wait for the group until the timeout; torch
        tells it of the launcher's end by SIGINT, which is blocked so early (forward_signals).
        """
        self._end_with_launcher(signal.SIGKILL)
        init(backend=self._backend or backend, **options)
        # Else gloo's groups, Detectron2's and ours, wait half an hour whatever the run's timeout.
        torch.distributed.new_group = functools.partial(
            torch.distributed.new_group, timeout=options.get("timeout")
        )
        self._end_with_launcher(signal.SIGINT)  # torch's own choice

    def _end_with_launcher(self, number: signal.Signals) -> None:
        torch.multiprocessing._prctl_pr_set_pdeathsig(number)
        if os.getppid() != self._launcher:  # it has ended before that
            os._exit(FAILED)

    def __call__(self, args: argparse.Namespace, cfg: DictConfig) -> None:
        # A spawned process would spawn its loaders' workers too: seconds of imports each, at the
        # start and at every scoring, where a run of one process forks them.
        multiprocessing.set_start_method(self._start_method, force=True)
        _guarded(self._main, args, cfg, self._identity)
        # All work is done and written. The interpreter's own end now and then aborts in threads of
        # the group that are still there, and would make a failure of it.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _guarded(
    main: Callable[..., None], args: argparse.Namespace, cfg: DictConfig, identity: str = ""
) -> None:
    """Run main, turning wrong input and signals into one line and an exit code."""
    stop_signals.install()
    stop_signals.quiet = not comm.is_main_process()
    world_size = comm.get_world_size()
    if world_size > 1 and (on_cpu(cfg) or not torch.cuda.is_available()):
        # Else every process takes every core.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // comm.get_local_size()))
    # Detectron2 logs a traceback of whatever ends a training.
    logging.getLogger("detectron2.engine.train_loop").addFilter(_told_elsewhere)
    try:
        args.ranks = check_group(identity, cfg.train.get("device"))
        main(args, cfg)
        _leave_group()
    except SystemExit:
        stop_signals.ending = True
        stop_signals.tell(stop_signals.farewell)
        raise
    except InputError as error:
        stop_signals.ending = True
        # What all of them met the main one tells, and the launcher then ends this one; what only
        # this one met, such as a broken image, it tells itself.
        if not comm.is_main_process() and stop_signals.wait(PATIENCE_S):
            sys.exit(2)
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except Exception as error:
        stop_signals.ending = True
        if tells_of_full_disk(error):
            print(f"error: {_what_is_full(cfg)}", file=sys.stderr, flush=True)
            sys.exit(2)
        if world_size == 1:
            raise
        _tell_of(error)
        # One that loses others as all of them stop has been stopped itself.
        sys.exit((LOST.search(str(error)) and stop_signals.requested) or FAILED)


def _what_is_full(cfg: DictConfig) -> str:
    return (
        f"no space left on the disk of {cfg.train.output_dir} or of {tempfile.gettempdir()}: what "
        "was saved before is whole; make room, then start again, a training with --resume."
    )


def _tell_of(error: Exception) -> None:
    """Say which process failed and why, first that which failed by itself."""
    where = f"rank {comm.get_rank()} of {comm.get_world_size()} on {socket.gethostname()}"
    if LOST.search(str(error)):
        # Time for the one that is lost to tell its own error, or for its launcher to.
        if stop_signals.requested or stop_signals.wait(PATIENCE_S):
            return
        first = str(error).strip().splitlines()[0]
        print(
            f"error: {where} lost another process of the run ({first}): its error is above, or in "
            "the log of its machine.",
            file=sys.stderr,
            flush=True,
        )
        return
    print(f"error: {where} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)


def _told_elsewhere(record: logging.LogRecord) -> bool:
    """Keep a log record unless it tells of an error that ends with words of its own."""
    if not record.exc_info:
        return True
    error = record.exc_info[1]
    return not isinstance(error, InputError) and not LOST.search(str(error))


def _leave_group() -> None:
    """End the process group together, where there is one.

    Detectron2 leaves it to the interpreter's exit, which now and then aborts in the group's threads
    while the other processes still use them, after all work is done.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        comm.synchronize()
        torch.distributed.destroy_process_group()
