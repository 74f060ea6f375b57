#!/usr/bin/env python
"""Show what INSPIRE gains, and which of its parts: configs x seeds x held-out centres.

    python tools/study.py --weights weights/r18_imagenet_d2.pkl
    python tools/study.py --weights weights/r18_imagenet_d2.pkl --task detection --centres C1 C2
    python tools/study.py --weights weights/r18_imagenet_d2.pkl --task unet --centres C6
    python tools/study.py --weights weights/r18_imagenet_d2.pkl --centres C1+C2+C4
    python tools/study.py --weights weights/r18_imagenet_d2.pkl --task detection \\
        --define rate4 steps2 optimizer.params.lr_factor_func.inspire=4 --variants plain rate4
    python tools/study.py --weights weights/r18_imagenet_d2.pkl --splits my/annotations
    python tools/study.py --weights weights/r18_imagenet_d2.pkl --quick

Each run trains on all PolypGen centres but one, or with C1+C2+C4 all but those three, and scores
the last iteration on what was held out: nothing is chosen on it. With --splits it trains on your
own train.json and scores val.json, as often as there are folders, such as the folds of a
cross-validation. Runs share the config's schedule; `plain` has FPN, or a plain U-Net, in INSPIRE's
place; `plain_1.2x` and `plain_1.7x` are it, trained so much longer, for comparison at equal time.
Within one seed all variants see the same batches and begin with the same weights in all they share.
A run that is finished is not run again, one that was interrupted goes on from its last checkpoint.
Where one GPU serves many --jobs, start NVIDIA's MPS (`nvidia-cuda-mps-control -d`) first: without
it they take turns.

Writes to --output: data/ (the splits), runs/TASK/CENTRE/VARIANT/seedN (train_net.py's folders),
results/*.json (one a run), table.md and gains.png.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error, first_few
from tools.study_progress import Progress
from tools.study_run import CONFIGS, REPOSITORY, Run, config_of, data_overrides
from tools.study_splits import by_name, hold_out, take_own
from tools.study_variants import VARIANTS, Variant, defined, overridden

QUICK = {
    "iterations": 20, "centres": ["C6"], "seeds": [0], "variants": ["plain", "steps1", "steps2"],
}  # fmt: skip
PROGRESS_S = 300  # between two lines that say how far the runs are


def main(argv: list[str] | None = None) -> None:
    """Run what is not finished, then write the table; exits with 2 on wrong input."""
    args = parse(argv)
    with exit_on_input_error():
        try:
            code = study(args)
        except KeyboardInterrupt:
            say("interrupted; the same command goes on, and writes the table")
            code = 130
        except OSError as error:
            raise InputError(f"{error}.") from error  # of a folder that cannot be written to
    sys.exit(code)


def study(args: argparse.Namespace) -> int:
    """Do what main does; return the code to exit with: 0, 1 where a run failed, 130 on a stop."""
    variants = overridden(VARIANTS | defined(args.define), args.overrides)
    check(args, variants)
    data, folder = args.output / "data", args.output / "runs" / args.task
    for centre in args.centres:
        if args.splits:
            take_own(args.splits[centre], data / centre)
        else:
            hold_out(centre, args.root, data / centre)
    runs = [
        Run(args.task, v, variants[v], c, s, folder / c / v / f"seed{s}", data)
        for s in args.seeds
        for c in args.centres
        for v in args.variants
    ]
    from tools.study_folder import refuse_another_run  # seconds to import

    for run in runs:
        refuse_another_run(
            run.folder, config_of(args.task, run.changes.inspire), run.overrides(args)
        )
    try:
        code = 1 if run_all(runs, args) else 0
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from the last checkpoints")
        code = 130
    report(runs, args)
    return code


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets = Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
    parser.add_argument("--task", choices=CONFIGS, default="semantic")
    parser.add_argument(
        "--weights", type=Path, required=True, help="ImageNet ResNet-18 to start from"
    )
    parser.add_argument("--root", type=Path, default=datasets / "polypgen", help="PolypGen")
    parser.add_argument(
        "--splits", nargs="+", type=Path, metavar="FOLDER",
        help="your own data in place of PolypGen's: folders that each hold a train.json and a "
        "val.json, as datasets/prepare_polyps.py writes them",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        type=Path,
        help="default: runs/study, with another --task and with --quick runs/study_TASK_quick",
    )
    parser.add_argument("--centres", nargs="+", help="each held out in turn (default: C1 C2 C4)")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2")
    parser.add_argument("--variants", nargs="+", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument(
        "--define", nargs="+", action="append", default=[], metavar=("NAME VARIANT", "KEY=VALUE"),
        help="a variant of your own: one of those above, with overrides of its config",
    )  # fmt: skip
    parser.add_argument(
        "--overrides", nargs="+", default=[], metavar="KEY=VALUE", help="of every variant's config"
    )
    parser.add_argument("--baseline", help="the variant to compare with (default: plain)")
    parser.add_argument("--iterations", type=int, help="default: the config's")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1,
        help="runs side by side, of one thread each (default: one a core)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one centre and seed, 20 iterations")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    args = parser.parse_args(argv)
    if args.output is None:
        task = f"_{args.task}" if args.task != "semantic" else ""
        args.output = Path(f"runs/study{task}{'_quick' if args.quick else ''}")
    if args.splits and args.centres:
        parser.error("--centres are PolypGen's; --splits takes their place")
    defaults = {"centres": ["C1", "C2", "C4"], "seeds": [0, 1, 2], "iterations": None}
    defaults["variants"] = ["plain", "plain_1.2x", "plain_1.7x", "steps1", "steps2"]
    for key, value in (defaults | (QUICK if args.quick else {})).items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    return args


def check(args: argparse.Namespace, variants: dict[str, Variant]) -> None:
    """Complete the arguments; raise InputError where one of them cannot be used."""
    from inspire_d2.engine.checks import check_datasets
    from inspire_d2.engine.config import load_config
    from inspire_d2.engine.train_options import check_train_options

    unknown = [v for v in args.variants if v not in variants]
    if unknown:
        raise InputError(f"unknown variant {first_few(unknown)}: take from {', '.join(variants)}.")
    if args.baseline is None:
        args.baseline = "plain"
    elif args.baseline not in args.variants:
        raise InputError(f"--baseline {args.baseline} is not one of --variants.")
    if not args.weights.is_file():
        raise InputError(
            f"--weights {args.weights} does not exist: make it with tools/convert_torchvision.py."
        )
    if args.jobs < 1 or (args.iterations is not None and args.iterations < 1):
        raise InputError("--jobs and --iterations must be 1 or more.")
    if not all(0 <= seed < 2**32 for seed in args.seeds):  # below 0 each run would draw another
        raise InputError("--seeds must be 0 or more, and below 2^32.")
    if args.splits:
        args.splits = by_name(args.splits)
        args.centres = list(args.splits)
    if args.iterations is None:
        args.iterations = load_config(str(config_of(args.task, inspire=False))).train.max_iter
    together = ["+".join(sorted(centre.split("+"))) for centre in args.centres]
    for key, named in (("centres", together), ("seeds", args.seeds), ("variants", args.variants)):
        if len(set(named)) < len(named):
            raise InputError(f"--{key} names one twice.")  # two runs in one folder
    for name in args.variants:  # a typing error, before any run
        variant = variants[name]
        cfg = load_config(str(config_of(args.task, variant.inspire)), list(variant.overrides))
        check_train_options(cfg)
        if cfg.train.eval_period:  # a run that was scored counts as finished
            raise InputError(
                f"{name}: train.eval_period={cfg.train.eval_period}, but a study scores the last "
                "iteration alone: leave it 0."
            )
    first = variants[args.variants[0]]
    for name, source in (args.splits or {}).items():
        overrides = [*first.overrides, *data_overrides(name, source)]
        cfg = load_config(str(config_of(args.task, first.inspire)), overrides)
        check_datasets(cfg, ("train", "test"))
    args.weights, args.output = args.weights.resolve(), args.output.resolve()


def run_all(runs: list[Run], args: argparse.Namespace) -> list[Run]:
    """Run what is not finished, ``args.jobs`` at a time; return the runs that failed."""
    waiting = [run for run in runs if not run.finished]
    say(f"{len(runs)} runs, {len(runs) - len(waiting)} of them finished already")
    if args.dry_run:
        for run in waiting:
            print(shlex.join(run.command(args)))
        return []
    running: dict[subprocess.Popen[bytes], Run] = {}
    failed, progress = [], Progress(len(waiting), args.jobs)
    next_line = time.monotonic() + min(60, PROGRESS_S)
    # A flag, no exception: one in the middle of a start would leave that run behind.
    stops: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _: stops.append(received))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN  # nohup
    }
    try:
        while (waiting or running) and not stops:
            while waiting and len(running) < args.jobs:
                run = waiting.pop(0)
                running[launch(run, args)] = run
                progress.start(run)
            time.sleep(0.5)
            for process in [p for p in running if p.poll() is not None]:
                run = running.pop(process)
                progress.end(run)
                if process.returncode or not run.finished:
                    failed.append(run)
                    say(f"{run} FAILED: {run.failure()}")
                    continue
                say(f"{run} done; {len(waiting) + len(running)} to go{progress.time_left()}")
            if running and time.monotonic() >= next_line:
                say(str(progress))
                next_line += PROGRESS_S
    finally:
        # Each Ctrl-C, SIGTERM or SIGHUP is handed on to the runs, in groups of their own.
        sent = 0
        while any(process.poll() is None for process in running):
            if sent < max(len(stops), 1):
                sent += 1
                for process in running:
                    process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        for number, handler in before.items():
            signal.signal(number, handler)
    if stops:
        raise KeyboardInterrupt
    return failed


def launch(run: Run, args: argparse.Namespace) -> "subprocess.Popen[bytes]":
    """Start a run on one thread, its output in study.log of its folder."""
    run.folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1" if args.jobs > 1 else str(os.cpu_count())}
    with open(run.folder / "study.log", "ab") as log:
        return subprocess.Popen(
            run.command(args), cwd=REPOSITORY, env=environment, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def report(runs: list[Run], args: argparse.Namespace) -> None:
    """Write results, table and picture of the runs that are finished."""
    finished = [run for run in runs if run.finished]
    if not finished or args.dry_run:
        return
    say(f"writing the table, some seconds for each of {len(finished)} runs")
    from tools.study_report import write_report

    write_report(finished, args.output, args.baseline)


def say(text: str) -> None:
    """Print a line of progress."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
