"""What tools/submit.py checks before it submits anything, as train_net.py will on the nodes.

The machine that submits may have no GPU, so nothing here asks for one.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from inspire_d2.engine.arguments import argument_parser
from inspire_d2.engine.checks import check_datasets
from inspire_d2.engine.config import is_overridden, load_config
from inspire_d2.engine.config_yaml import check_saveable
from inspire_d2.engine.device import parse_device
from inspire_d2.engine.dist import check_dist
from inspire_d2.engine.run_start import check_output_dir, check_resume, find_checkpoint
from inspire_d2.engine.scoring import find_checkpoints
from inspire_d2.engine.submission import TrainingJob
from inspire_d2.engine.train_options import check_train_options
from inspire_d2.errors import InputError
from inspire_d2.model_zoo import find_config

__all__ = ["Run", "prepare"]

# Options of train_net.py that it takes from Slurm here.
SET_BY_JOB = ("slurm", "num_machines", "machine_rank", "dist_url")


@dataclass(frozen=True)
class Run:
    """A config, and the job that runs it."""

    config_file: str
    cfg: DictConfig
    job: TrainingJob


def prepare(args: argparse.Namespace, words: list[str]) -> list[Run]:
    """Check train_net.py's words against each config as it will itself; return the runs.

    Raises:
        InputError: it would refuse them, or they do not fit the job.
    """
    parser = argument_parser()
    parser.prog = f"{Path(sys.argv[0]).name} ... --"
    # None for what is not given.
    parser.set_defaults(num_gpus=None, **dict.fromkeys(SET_BY_JOB))
    theirs = parser.parse_args(words)
    for name in SET_BY_JOB:
        if getattr(theirs, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} after -- is for the job to set.")
    if args.array_of_configs and theirs.config_file:
        raise InputError("--config-file and --array-of-configs: name the configs in one of them.")
    processes = processes_per_node(args, theirs.num_gpus)
    runs = [
        _prepare_one(args, theirs, words, config_file, processes)
        for config_file in args.array_of_configs or [theirs.config_file]
    ]
    if args.array_of_configs:
        _check_array(runs, theirs.opts)
    return runs


def processes_per_node(args: argparse.Namespace, asked: int | None) -> int:
    """Return how many processes a node starts: ``asked``, else one per GPU, at least one.

    Raises:
        InputError: more than there are GPUs, on a node that has some.
    """
    gpus = args.gpus_per_node
    if asked is None:
        return max(gpus, 1)
    if asked < 1:
        raise InputError(f"--num-gpus {asked}: must be 1 or more.")
    if gpus and asked > gpus:
        raise InputError(f"--num-gpus {asked}: a node has --gpus-per-node {gpus}.")
    return asked


def _prepare_one(
    args: argparse.Namespace,
    theirs: argparse.Namespace,
    words: list[str],
    config_file: str,
    processes: int,
) -> Run:
    cfg = load_config(config_file, theirs.opts)
    check_saveable(cfg)
    check_train_options(cfg)
    parse_device(cfg.train.device or "cpu", processes)
    check_dist(cfg)
    world_size = processes * args.nodes
    batch = cfg.dataloader.train.total_batch_size
    if not theirs.eval_only and batch % world_size:
        raise InputError(
            f"{config_file}: dataloader.train.total_batch_size={batch} is not a multiple of the "
            f"{world_size} processes asked for."
        )
    if not args.gpus_per_node and str(cfg.train.device).startswith("cuda"):
        raise InputError(
            f"{config_file}: train.device={cfg.train.device}, but the job has no GPU "
            "(--gpus-per-node 0)."
        )
    if theirs.resume and not theirs.eval_only:
        check_resume(cfg, find_config(config_file), theirs.opts)
    _check_start(args, theirs, cfg)
    if args.array_of_configs:
        words = ["--config-file", config_file, *words]
    job = TrainingJob(tuple(words), processes, cfg.train.output_dir, slurm=not args.local)
    return Run(config_file, cfg, job)


def _check_start(args: argparse.Namespace, theirs: argparse.Namespace, cfg: DictConfig) -> None:
    """Check what a run starts from and where it writes to."""
    if theirs.checkpoint and not theirs.eval_only:
        raise InputError(
            "--checkpoint goes with --eval-only; to start from one, set train.init_checkpoint=FILE."
        )
    if not find_checkpoints(theirs.checkpoint):
        named = is_overridden("train.init_checkpoint", theirs.opts)
        find_checkpoint(cfg, eval_only=theirs.eval_only, resume=theirs.resume, named=named)
    output_dir = cfg.train.output_dir
    # A dry run makes no folder.
    if not args.dry_run or os.path.isdir(output_dir):
        check_output_dir(output_dir, resume=theirs.resume or theirs.eval_only)
    check_datasets(cfg, ("test",) if theirs.eval_only else ("train", "test"))


def _check_array(runs: list[Run], overrides: list[str]) -> None:
    if is_overridden("train.output_dir", overrides):
        raise InputError(
            "train.output_dir=... would be the same for all of --array-of-configs: set it in them."
        )
    owners: dict[str, str] = {}
    for run in runs:
        folder = os.path.realpath(run.job.output_dir)
        if folder in owners:
            raise InputError(
                f"--array-of-configs: {owners[folder]} and {run.config_file} have one "
                f"train.output_dir, {run.job.output_dir}."
            )
        owners[folder] = run.config_file
