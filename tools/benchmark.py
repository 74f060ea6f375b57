#!/usr/bin/env python
"""Measure what pyramids cost: time and peak memory, with Detectron2's FPN as the measure.

    python tools/benchmark.py                 # CPU, 512x512, batch 1: half an hour on 2 cores
    python tools/benchmark.py --quick         # 256x256, few rounds: a minute or two
    python tools/benchmark.py --scaling       # how time grows with the image
    python tools/benchmark.py --profile inspire2-flow --scopes backbone --modes train
    python tools/benchmark.py --startup --config-file configs/polyp/mask_rcnn_r18_inspire.py
    python tools/benchmark.py --scoring       # libraries that compute COCO's AP, side by side
    python tools/benchmark.py --loader --config-file configs/polyp/mask_rcnn_r18_inspire.py
    python tools/benchmark.py --devices cuda --precisions fp32 bf16 --sizes 800x1333 --batches 1 2

Scopes: the pyramid alone on fixed feature maps, ResNet-50 + pyramid, and Mask R-CNN R50, whose
heads get the same proposals from all subjects. In each round every subject runs once. Writes
results.json (raw values), table.md and cost.png, --scoring writes scoring.json and scoring.md,
--loader, which loads a config's images by its loader and by Detectron2's, loader.json and
loader.md; Ctrl-C writes what there is so far.
"""

import argparse
import contextlib
import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # works without an install

# Detectron2's model zoo imports it, and nothing is to be done about it here.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")

from inspire_d2.errors import InputError, exit_on_input_error
from tools.cost.environment import describe_environment, hush
from tools.cost.figure import draw_ratios
from tools.cost.loader import LoaderCosts, loader_table, measure_loaders
from tools.cost.options import fill_in, plan_settings
from tools.cost.results import Results
from tools.cost.runner import measure_memory, measure_time, profile
from tools.cost.scoring import ScoringCosts, measure_scoring, scoring_tables
from tools.cost.scoring_set import ScoringSet
from tools.cost.setting import MODES, PRECISIONS, SCOPES
from tools.cost.startup import first_iteration_seconds, help_seconds
from tools.cost.subjects import SUBJECTS
from tools.cost.tables import growth_tables, left_out_lines, measurement_table, results_tables


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; exits with 2 on wrong input and with 130 when interrupted."""
    args = argument_parser().parse_args(argv)
    hush()
    with exit_on_input_error():
        fill_in(args)
        if args.scoring:
            score(args)
            return
        if args.loader:
            load(args)
            return
        if args.startup:
            report_startup(args.config_file)
            return
        settings = plan_settings(args)
        if args.profile:
            print(profile(settings[0], args.modes[0], args.profile))
        else:
            run(args, settings)


def argument_parser() -> argparse.ArgumentParser:
    """Describe the command line; what is None by default depends on --quick and --scaling."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--subjects", nargs="+", metavar="NAME", help=f"all, or some of {', '.join(SUBJECTS)}")
    add("--scopes", nargs="+", metavar="SCOPE", help=f"some of {', '.join(SCOPES)} (all)")
    add("--modes", nargs="+", metavar="MODE", help=f"some of {', '.join(MODES)}, memory (all)")
    add("--sizes", nargs="+", metavar="SIZE", help="N or HEIGHTxWIDTH in pixels (512)")
    add("--batches", nargs="+", type=int, metavar="N", default=[1], help="images in a batch (1)")
    add("--devices", nargs="+", metavar="DEVICE", default=["cpu"], help="cpu, cuda (cpu)")
    add("--precisions", nargs="+", metavar="PRECISION", default=["fp32"],
        help=f"{', '.join(PRECISIONS)}: bf16, fp16 by autocast, fp16 on GPUs alone")  # fmt: skip
    add("--channels-last", action="store_true", help="weights and maps channels last in memory")
    add("--compile", action="store_true", help="torch.compile the pyramid and its bottom-up")
    add("--rounds", type=int, help="timed rounds (pyramid 12, backbone 8, detector 4)")
    add("--warmup", type=int, help="rounds before those, discarded (3, 2, 2)")
    add("--children", type=int, help="processes for each subject's memory (1)")
    add("--threads", type=int, help="of torch on the CPU (as many as torch takes)")
    add("--seed", type=int, default=0, help="of weights, images and ground truth")
    add("--quick", action="store_true", help="256x256, 3 rounds, no detector, five subjects")
    add("--scaling", action="store_true", help="256 to 1024 px and the exponent of the growth")
    add("--profile", metavar="SUBJECT", help="print torch.profiler's table of one step instead")
    add("--startup", action="store_true", help="time the start of train_net.py instead")
    add("--scoring", action="store_true", help="time libraries that compute COCO's AP instead")
    add("--loader", action="store_true", help="time the loading of training images instead")
    add("--config-file", help="whose images --loader loads (the polyp detector's); with --startup"
        ": also the time to the first iteration")  # fmt: skip
    add("--output", type=Path, default=REPOSITORY / "runs" / "benchmark", help="folder of results")
    return parser


def run(args: argparse.Namespace, settings: list) -> None:
    """Measure everything that was asked for, print tables as they are done, write all files."""
    import torch  # after inspire_d2, as in a training: its threads wait as they do there

    options = {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()}
    results = Results(describe_environment(), options)
    make_folder(args.output)
    timed = [mode for mode in args.modes if mode in MODES]
    with keeping(lambda: write(results, args.output), args.output):
        for setting in settings:
            rounds, warmup = args.rounds[setting.scope], args.warmup[setting.scope]
            measurements = [measure_time(setting, timed, args.subjects, rounds, warmup, results)]
            if "memory" in args.modes:
                threads = torch.get_num_threads()
                measurements.append(
                    measure_memory(setting, args.subjects, args.children, threads, results)
                )
            for found in itertools.chain.from_iterable(measurements):
                print(measurement_table(found), end="\n\n", flush=True)
                write(results, args.output)
    for part in (*growth_tables(results), *left_out_lines(results)):
        print(part, end="\n\n")
    names = write(results, args.output)
    print(f"{args.output} holds {', '.join(names)}", file=sys.stderr)


def score(args: argparse.Namespace) -> None:
    """Measure the libraries that score, print a table, write files; exits with 1 if they differ."""
    import torch

    size = ScoringSet(100, 10, args.seed) if args.quick else ScoringSet(500, 20, args.seed)
    costs = ScoringCosts(describe_environment(), size)
    parts = measure_scoring(costs, args.rounds, args.warmup, torch.get_num_threads())
    record(costs, parts, scoring_tables, args.output, "scoring")
    if disagreeing := costs.disagreeing():
        print(f"error: other numbers: {', '.join(disagreeing)}", file=sys.stderr)
        sys.exit(1)
    print(f"{args.output} holds scoring.json, scoring.md", file=sys.stderr)


def load(args: argparse.Namespace) -> None:
    """Measure the training loaders, print a table, write files."""
    costs = LoaderCosts(describe_environment(), args.config_file)
    parts = measure_loaders(costs, 40 if args.quick else 100, args.rounds, args.warmup)
    record(costs, parts, loader_table, args.output, "loader")
    print(f"{args.output} holds loader.json, loader.md", file=sys.stderr)


Costs = TypeVar("Costs", ScoringCosts, LoaderCosts)


def record(
    costs: Costs, parts: Iterable[None], lay_out: Callable[[Costs], str], folder: Path, name: str
) -> None:
    """Measure part by part, write NAME.json and NAME.md after each, and print the table."""
    make_folder(folder)

    def write_costs() -> None:
        costs.save(folder / f"{name}.json")
        (folder / f"{name}.md").write_text(lay_out(costs))

    with keeping(write_costs, folder):
        for _ in parts:
            write_costs()
    print(lay_out(costs))


def make_folder(folder: Path) -> None:
    """Make the folder of results; raises InputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}.") from error


@contextlib.contextmanager
def keeping(write_all: Callable[[], object], folder: Path) -> Iterator[None]:
    """Write what there is where the block is interrupted, or fails; exits with 130 after Ctrl-C.

    Raises:
        InputError: the block failed, as where memory runs out.
    """
    try:
        yield
    except KeyboardInterrupt:
        write_all()
        print(f"interrupted; {folder} holds what was measured", file=sys.stderr)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is one
        write_all()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"measuring failed ({reason}); {folder} holds what was measured."
        ) from error


def write(results: Results, folder: Path) -> list[str]:
    """Write what there is so far; return the files' names."""
    results.save(folder / "results.json")
    (folder / "table.md").write_text(results_tables(results))
    picture = folder / "cost.png"
    if not draw_ratios(results, picture):
        picture.unlink(missing_ok=True)  # of another run
        return ["results.json", "table.md"]
    return ["results.json", "table.md", picture.name]


def report_startup(config_file: str | None) -> None:
    """Print how long `train_net.py --help` takes and, for a config, its first iteration."""
    print(f"train_net.py --help: {help_seconds():.2f} s (median of 3)", flush=True)
    if config_file is not None:
        seconds = first_iteration_seconds(config_file)
        print(f"{config_file}: {seconds:.1f} s from the command to the first iteration's metrics")


if __name__ == "__main__":
    main()
