"""The command line of train_net.py; imports nothing heavy, so that --help comes at once."""

import argparse

__all__ = ["argument_parser"]


def argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser that takes what Detectron2's own takes.

    On one machine the processes meet at a port that is free ("auto").
    """
    parser = argparse.ArgumentParser(
        epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a LazyConfig, or a run's config.yaml")
    add("--resume", action="store_true", help="go on from the run's last checkpoint")
    add("--eval-only", action="store_true", help="score a checkpoint")
    add(
        "--checkpoint",
        action="append",
        default=[],
        metavar="PATTERN",
        help="with --eval-only: a file or a quoted glob to score, once or several times",
    )
    add(
        "--num-gpus",
        type=int,
        default=1,
        help="processes per machine: one per GPU, or CPU processes without a GPU",
    )
    add("--num-machines", type=int, default=1)
    add("--machine-rank", type=int, default=0, help="of this machine, 0..num-machines - 1")
    add("--dist-url", default="auto", help="tcp://HOST:PORT where the machines meet")
    add(
        "--slurm",
        action="store_true",
        help="take the machines, and where they meet, from Slurm: srun with one task per node",
    )
    # what a process learns of its job and of the other ranks when it starts
    parser.set_defaults(slurm_task=None, ranks=[])
    add("opts", nargs=argparse.REMAINDER, metavar="KEY=VALUE", help="overrides of the config")
    return parser
