"""Run all cases and print what they came to.

python -m tests.robustness
python -m tests.robustness --only image/ --seed 7 --keep failed
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a forked process has no other threads

from tabulate import tabulate
from tqdm import tqdm

from . import annotations, checkpoints, configs, images, paths, volumes
from .case import RESULT, SENTENCE, Case
from .material import with_models
from .runner import Outcome, preload, run_case


def main() -> None:
    """Exit with 1 where a case failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of files damaged by chance")
    parser.add_argument("--only", default="", help="cases whose kind/name holds this")
    parser.add_argument("--keep", type=Path, help="a folder for the files of failed cases")
    parser.add_argument("--json", type=Path, help="a file for every case's outcome")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        outcomes = run_all(args.seed, args.only, folder.absolute())
    if args.json:
        rows = [{"case": str(one.case), **one.__dict__} for one in outcomes]
        args.json.write_text(json.dumps(rows, default=str, indent=1))
    report(outcomes)
    sys.exit(any(one.problem for one in outcomes))


def all_cases(seed: int) -> list[Case]:
    """Return them; their names differ."""
    parts = (images, annotations, configs, checkpoints, volumes, paths)
    return [case for part in parts for case in part.cases(seed)]


def run_all(seed: int, only: str, folder: Path) -> list[Outcome]:
    """Run the cases whose names hold ``only``."""
    commands = with_models(preload(), folder / "material")
    chosen = [case for case in all_cases(seed) if only in str(case)]
    outcomes = []
    for number, case in enumerate(tqdm(chosen, unit="case", mininterval=5)):
        outcomes.append(run_case(case, commands[case.command], folder / f"case{number}"))
        if outcomes[-1].problem:
            tqdm.write(f"FAILED {case}: {outcomes[-1].problem}; {outcomes[-1].sentence[:300]}")
    return outcomes


def report(outcomes: list[Outcome]) -> None:
    """Print a line for each kind."""
    kinds = Counter(one.case.kind for one in outcomes)
    rows = []
    for kind, number in [*kinds.items(), ("all", len(outcomes))]:
        some = [one for one in outcomes if kind in (one.case.kind, "all")]
        came_to = Counter("failed" if one.problem else one.came_to for one in some)
        most = (max(one.seconds for one in some), max(one.bytes for one in some) / 1e9)
        rows.append([kind, number, came_to[RESULT], came_to[SENTENCE], came_to["failed"], *most])
    head = ["kind", "cases", RESULT, SENTENCE, "failed", "longest, s", "most memory, GB"]
    print(tabulate(rows, head, tablefmt="pipe", floatfmt=".1f"))


if __name__ == "__main__":
    main()
