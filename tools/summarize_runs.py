#!/usr/bin/env python
"""Print a Markdown table of runs that were scored: scores, time per iteration, peak memory.

    python tools/summarize_runs.py runs/polyp/mask_rcnn_r18_fpn runs/polyp/mask_rcnn_r18_inspire

Reads each run's metrics.json, config.yaml and evaluation.json, or that of --eval-only where it is
newer; writes nothing.
"""

import argparse
import json
import statistics
import sys
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
)


def summarize(run: Path) -> dict[str, str]:
    """Read one run's row.

    Raises:
        InputError: the run has not been scored, or its files cannot be read.
    """
    from inspire_d2.engine.config import load_config
    from inspire_d2.engine.run_folder import find_scores

    if not (run / "config.yaml").is_file():
        raise InputError(f"{run} holds no config.yaml: it is no output folder of train_net.py.")
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
        return _row(run, scores, lines, cfg)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{run} is not a run of train_net.py: its evaluation.json, metrics.json or config.yaml "
            f"holds something else ({error})."
        ) from error


def _row(
    run: Path, scores: dict[str, Any], lines: list[dict[str, Any]], cfg: "DictConfig"
) -> dict[str, str]:
    iterations = str(cfg.train.max_iter)
    done = lines[-1].get("iteration", -1) + 1 if lines else 0
    if done < cfg.train.max_iter:
        iterations = f"{done} of {iterations}"
    row = {
        "run": run.name,
        "seed": str(cfg.train.seed),
        "iterations x images": f"{iterations} x {cfg.dataloader.train.total_batch_size}",
    }
    for name, task, metric, form in SCORES:
        value = scores.get(task, {}).get(metric)
        row[name] = "-" if value is None else format(value, form)
    row["s/iteration"] = _median(lines, "time", ".2f")
    row["peak memory, GB"] = _median(lines[-3:], "memory_gb", ".1f")
    return row


def _median(lines: list[dict[str, Any]], key: str, form: str) -> str:
    values = [line[key] for line in lines if key in line]
    return format(statistics.median(values), form) if values else "-"


def main(argv: list[str] | None = None) -> None:
    """Print the table of the runs named; exits with 2 on wrong input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of train_net.py")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        rows = [summarize(run) for run in args.runs]
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
