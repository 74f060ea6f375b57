#!/usr/bin/env python
"""Kill trainings at random moments, resume them, and compare with one that was never stopped.

    python tools/faults.py --runs 20 --processes 2

A small detector is trained on synthetic images on the CPU: once as it is, then --runs times with
SIGKILL to its launcher or to one of its ranks, at a moment drawn evenly from the time that the
first one took, and --resume, until it is done; each start may be the next to be killed. What is
left must be the same bit for bit: weights, optimizer, losses of every iteration, scores. Exits with
1 where it is not, where a run does not end well, or where a killed one leaves processes behind.

Writes to --output: faults.json, and what each run that differs has written.
"""

import argparse
import json
import os
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error
from tools.faulty.records import Kill, Run, count
from tools.faulty.training import ENDING_S, Training

CONFIG = "configs/polyp/demo_mask_rcnn_inspire.py"
NUM_IMAGES, TRAIN_SHARE, SIZE = 16, 0.75, 96
IMAGES_PER_RANK = 2
# A start is killed again with this chance, at most so many of a run.
KILL_AGAIN, MOST_KILLS = 0.5, 5
# Of a checkpoint that is being written.
PART = "checkpoint.part"
# A folder that holds this file was made here, and may be made anew.
MARKER = "made_by_faults"


@dataclass(frozen=True)
class Plan:
    """A kill to come: seconds after the start; whom, as a share of those there will be.

    With ``at_write``, the one that writes the next checkpoint from then on, while it does.
    """

    moment: float
    victim: float
    at_write: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench; exits with 1 where a run differs, 2 on wrong input, 130 on Ctrl-C."""
    args = parse(argv)
    with exit_on_input_error():
        check(args)
        prepare_folder(args.output)
    runs: list[Run] = []
    interrupted = False
    try:
        bench = Bench(args)
        print(f"never stopped: {args.iterations} iterations, {bench.duration:.1f} s", flush=True)
        for number in range(1, args.runs + 1):
            runs.append(bench.run(number))
            print(f"run {number} of {args.runs}: {runs[-1].told()}", flush=True)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted", file=sys.stderr)
    report(args, runs)
    if any(run.problems for run in runs):
        sys.exit(1)
    if interrupted:
        sys.exit(130)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--runs", type=int, default=10, help="trainings to kill (default: %(default)s)")
    add("--processes", type=int, default=2, help="of each training (default: %(default)s)")
    add("--iterations", type=int, default=60, help="of each training (default: %(default)s)")
    add("--period", type=int, default=5, help="iterations between checkpoints (default: 5)")
    add(
        "--at-writes", type=float, default=0.0, metavar="SHARE",
        help="of the kills that hit a checkpoint being written (default: none of them on purpose)",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="of whom to kill and when (default: %(default)s)")
    add("--output", type=Path, default=REPOSITORY / "runs" / "faults")
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Raise InputError where a number cannot be used."""
    for name in ("runs", "processes", "iterations", "period"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: must be 1 or more.")
    if not 0 <= args.at_writes <= 1:
        raise InputError(f"--at-writes {args.at_writes}: not a share, 0 to 1.")
    if not Path("/proc/self/stat").exists():
        raise InputError("tools/faults.py finds processes in /proc, which is not here.")


def prepare_folder(folder: Path) -> None:
    """Make an empty folder; one that an earlier call made is emptied.

    Raises:
        InputError: it holds something else, or cannot be made.
    """
    try:
        if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
            raise InputError(
                f"--output {folder} holds files that this tool has not made: name another."
            )
        place = folder.resolve()  # a link stays, what it leads to is emptied
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / MARKER).touch()
    except OSError as error:
        raise InputError(f"--output {folder}: {error.strerror}.") from error


class Bench:
    """The data, the run that nobody stops, and the others, which are compared with it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._folder = args.output.absolute()
        self._random = random.Random(args.seed)
        self._environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        if sys.dont_write_bytecode:
            # Else every process compiles all that it imports, which takes longer than the training.
            folder = str(self._folder / "bytecode")
            self._environment |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        self._words = [*self._data(), *self._options()]
        self._whole = self._folder / "whole"
        self.duration = self._train_whole()

    def run(self, number: int) -> Run:
        """Train once more, killing it now and then, and compare."""
        run, output = Run(number), self._folder / f"run{number}"
        while self._start(run, output, self._next_kill(run)):
            pass
        if not run.problems:
            from tools.faulty.comparison import differences

            run.problems = differences(self._whole, output)
        if not run.problems:
            shutil.rmtree(output)
            output.with_suffix(".log").unlink()
        return run

    def _next_kill(self, run: Run) -> Plan | None:
        """Draw when and whom to kill next, None where the run may end this time."""
        # All four each time, so that what happens to one kill does not change the next.
        moment, victim, aimed, again = (self._random.random() for _ in range(4))
        if run.kills and (again >= KILL_AGAIN or len(run.kills) == MOST_KILLS):
            return None
        return Plan(moment * self.duration, victim, aimed < self._args.at_writes)

    def _start(self, run: Run, output: Path, plan: Plan | None) -> bool:
        """Start or resume a run, and kill it as planned; return whether it must go on."""
        with self._training(output, resume=bool(run.kills)) as training:
            try:
                if plan and (victim := self._choose(training, output, plan)):
                    return self._kill(run, training, output, *victim)
                code = training.wait()
            finally:
                run.seconds += training.seconds
        if code:
            run.problems.append(f"train_net.py ended with code {code}: see {output}.log")
        elif not run.kills:
            # Over before its time. The machine has become faster; begin anew.
            self.duration = min(self.duration, run.seconds)
            run.seconds = 0.0
            shutil.rmtree(output)
            return True
        return False

    def _choose(self, training: Training, output: Path, plan: Plan) -> tuple[str, int] | None:
        """Wait for the moment; return name and id of the process to kill, None if all is over."""
        part = output / PART
        if not training.wait_until(plan.moment):
            return None
        if plan.at_write and not training.wait_for(part.exists):
            return None
        victims = training.victims()
        if plan.at_write and "rank 0" in victims:  # the one that writes
            return "rank 0", victims["rank 0"]
        return list(victims.items())[int(plan.victim * len(victims))] if victims else None

    def _kill(self, run: Run, training: Training, output: Path, name: str, pid: int) -> bool:
        """Kill a process, and wait until none is left; return whether that is so."""
        metrics, last = output / "metrics.json", output / "last_checkpoint"
        kill = Kill(
            victim=name,
            seconds=training.seconds,
            iterations=metrics.read_bytes().count(b"total_loss") if metrics.exists() else 0,
            checkpoint=last.read_text().strip() if last.exists() else "",
        )
        training.kill(pid)
        run.kills.append(kill)
        gone = training.wait_for_all()
        kill.while_writing = (output / PART).exists()
        if not gone:
            left = len(training.processes())
            run.problems.append(f"{left} processes still ran {ENDING_S} s after the {name} died")
        return gone

    def _train_whole(self) -> float:
        """Train without a stop; return how many seconds that took."""
        with self._training(self._whole) as training:
            code = training.wait()
            seconds = training.seconds
        if code:
            log = self._whole.with_suffix(".log").read_text(errors="replace")
            print(log[-3000:], file=sys.stderr)
            sys.exit(f"error: the training that nobody stops ended with code {code}.")
        return seconds

    def _training(self, output: Path, resume: bool = False) -> Training:
        words = ["--resume"] if resume else []
        words += ["--num-gpus", str(self._args.processes), "--config-file", CONFIG, *self._words]
        return Training(
            [*words, f"train.output_dir={output}"], output.with_suffix(".log"), self._environment
        )

    def _data(self) -> list[str]:
        """Make the images; return the overrides that name them."""
        from inspire_d2.data import prepare, splits
        from inspire_d2.data.synthetic import write_synthetic_set

        root = self._folder / "data"
        write_synthetic_set(root, NUM_IMAGES, seed=0, size=SIZE)
        prepare.prepare_polyps("kvasir", root, splits.RatioSplit(TRAIN_SHARE, 0), root)
        words = []
        for split, name in (("train", "train"), ("test", "val")):
            dataset = f"dataloader.{split}.dataset"  # apart: a path may hold braces
            words += [f"{dataset}.name=faults_{name}", f"{dataset}.json_file={root / name}.json"]
        return words

    def _options(self) -> list[str]:
        return [
            f"train.max_iter={self._args.iterations}",
            f"train.checkpointer.period={self._args.period}",
            "train.log_period=1",
            f"dataloader.train.total_batch_size={IMAGES_PER_RANK * self._args.processes}",
            "dataloader.train.num_workers=1",
            "dataloader.test.num_workers=0",
            f"dataloader.train.mapper.augmentations.0.short_edge_length=[{SIZE * 2 // 3}]",
            f"dataloader.test.mapper.augmentations.0.short_edge_length={SIZE * 2 // 3}",
        ]


def report(args: argparse.Namespace, runs: list[Run]) -> None:
    """Print the table and write faults.json."""
    counts = count(runs)
    print()
    for name, number in counts.items():
        print(f"{name:<38}{number:>6}")
    content = {
        "processes": args.processes,
        "iterations": args.iterations,
        "period": args.period,
        "seed": args.seed,
        "counts": counts,
        "runs": [asdict(run) for run in runs],
    }
    path = args.output / "faults.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Details: {path}")


if __name__ == "__main__":
    main()
