#!/usr/bin/env python
"""Print a Markdown table of runs that were scored: scores, time per iteration, peak memory.

    python tools/summarize_runs.py runs/polyp/mask_rcnn_r18_fpn runs/polyp/mask_rcnn_r18_inspire

Reads each run's metrics.json, config.yaml and evaluation.json, or that of --eval-only where it is
newer; writes nothing.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Column, task and metric in evaluation.json, format
SCORES = (
    ("box AP", "bbox", "AP", ".1f"),
    ("box AP50", "bbox", "AP50", ".1f"),
    ("mask AP", "segm", "AP", ".1f"),
    ("mask AP50", "segm", "AP50", ".1f"),
    ("Dice", "polyp", "Dice", ".3f"),
    ("IoU", "polyp", "IoU", ".3f"),
    ("polyps found", "polyp", "recall", ".3f"),
    ("false positives/image", "polyp", "fp_per_image", ".2f"),
    ("volume Dice", "volume", "Dice", ".3f"),
    ("mIoU", "sem_seg", "mIoU", ".1f"),
    ("PQ", "panoptic_seg", "PQ", ".1f"),
)
# Column, key in the lines of metrics.json, what is made of them, format
COSTS = (
    ("s/iteration", "time", statistics.median, ".2f"),
    ("peak memory, GB", "memory_gb", max, ".1f"),
)
NOTHING = "-"


def summarize(run: Path, name: str) -> dict[str, str]:
    """Read the row of a run that goes by that name.

    Raises:
        InputError: the run has not been scored, or its files cannot be read.
    """
    from inspire_d2.engine.config import load_config
    from inspire_d2.engine.run_folder import find_scores

    cfg = load_config(str(run / "config.yaml"))
    folder, _, note = find_scores(run, cfg)
    if note:
        print(f"note: {note}", file=sys.stderr)
    try:
        scores = json.loads((folder / "evaluation.json").read_text())
        lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{run} is not a finished run: {error}.") from error
    try:
        return {"run": name} | _row(scores, lines, cfg)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{run} is not a run of train_net.py: its evaluation.json, metrics.json or config.yaml "
            f"holds something else ({error})."
        ) from error


def _row(scores: dict[str, Any], lines: list[dict[str, Any]], cfg: "DictConfig") -> dict[str, str]:
    iterations = str(cfg.train.max_iter)
    done = lines[-1].get("iteration", -1) + 1 if lines else 0
    if done < cfg.train.max_iter:
        iterations = f"{done} of {iterations}"
    row = {
        "seed": str(cfg.train.seed),
        "iterations x images": f"{iterations} x {cfg.dataloader.train.total_batch_size}",
    }
    for name, task, metric, form in SCORES:
        value = scores.get(task, {}).get(metric)
        row[name] = NOTHING if value is None else format(value, form)
    for name, key, reduce, form in COSTS:
        values = [line[key] for line in lines if key in line]
        row[name] = format(reduce(values), form) if values else NOTHING
    return row


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Lay rows of the same columns out as a table, without columns in which no row has anything."""
    names = [name for name in rows[0] if any(row[name] != NOTHING for row in rows)]
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(map(_as_cell, line))} |" for line in lines)


def _as_cell(text: str) -> str:
    """Escape what would end a cell; a folder's name may hold anything."""
    text = text.encode(errors="replace").decode()  # it may be no UTF-8
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def main(argv: list[str] | None = None) -> None:
    """Print the table of the runs named; exits with 2 on wrong input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of train_net.py")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        from inspire_d2.engine.run_folder import run_names

        for run in args.runs:
            if not os.path.isfile(run / "config.yaml"):  # it takes what is no name of a file, too
                raise InputError(
                    f"{run} holds no config.yaml: it is no output folder of train_net.py."
                )
        named = zip(args.runs, run_names(args.runs), strict=True)
        print(markdown([summarize(run, name) for run, name in named]))


if __name__ == "__main__":
    main()
