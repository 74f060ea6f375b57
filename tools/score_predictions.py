#!/usr/bin/env python
"""Score predictions that an evaluation has saved, without the model that made them.

    python tools/score_predictions.py runs/my/coco_instances_results.json \\
        --truth my/annotations/val.json
    python tools/score_predictions.py runs/{a,b}/coco_instances_results.json \\
        --truth my/annotations/val.json --tasks segm --output runs/scores.json

Every run's folder holds such a file. Prints COCO's 12 numbers of boxes and of masks, in percent,
and the AP of each category; of several files a table of all, the best last. The numbers are those
that train_net.py finds for the same predictions.
"""

import argparse
import contextlib
import io
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error

if TYPE_CHECKING:
    from inspire_d2.evaluation.saved import SavedEvaluator

# What takes seconds to import waits until the command line has been read.

TASKS = {"bbox": "boxes", "segm": "masks"}
# Rows and columns of the table of 12; COCO has no other numbers by size.
BY_SIZE = {
    "all": ("AP", "AP50", "AP75", "AR100", "AR10", "AR1"),
    "small": ("APs", None, None, "ARs", None, None),
    "medium": ("APm", None, None, "ARm", None, None),
    "large": ("APl", None, None, "ARl", None, None),
}
COMPARED = ("AP", "AP50", "AP75", "AR100")

Scores = Mapping[str, Mapping[str, float]]  # task: {metric: percent, or NaN}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables; exits with 2 on wrong input and with 130 when interrupted."""
    args = argument_parser().parse_args(argv)
    try:
        with exit_on_input_error():
            score(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def argument_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results", nargs="+", metavar="RESULTS", help="coco_instances_results.json of a run")
    add("--truth", required=True, metavar="FILE", help="the COCO annotations of the images")
    add("--tasks", nargs="+", metavar="TASK", help="bbox, segm (all that a file is for)")
    add("--backend", default="hotcoco", help="hotcoco, or pycocotools, slower (hotcoco)")
    add("--output", type=Path, metavar="FILE", help="write all numbers there, as JSON")
    return parser


def score(args: argparse.Namespace) -> None:
    """Score each file; raises InputError where something cannot be read or scored."""
    if unknown := sorted(set(args.tasks or ()) - TASKS.keys()):
        raise InputError(f"there is no task {unknown[0]}: take {' or '.join(TASKS)}.")

    from inspire_d2.data.coco_json import check_writable, write_jsons
    from inspire_d2.evaluation.saved import SavedEvaluator, read_results

    if args.output:
        check_writable(args.output.parent)
    evaluator = SavedEvaluator(args.truth, backend=args.backend)
    scores: dict[str, Scores] = {}
    for path in dict.fromkeys(args.results):
        results = read_results(path)
        try:
            # The libraries print tables of their own.
            with contextlib.redirect_stdout(io.StringIO()):
                tasks = [t for t in TASKS if t in (args.tasks or evaluator.tasks_of(results))]
                found = evaluator.score_results(results, tasks)
        except InputError as error:
            raise InputError(f"{path}: {error}.") from error
        scores[path] = found
        print("\n\n".join(report(path, results, found, evaluator)), end="\n\n", flush=True)
    if len(scores) > 1:
        print(comparison(scores))
    if args.output:
        write_jsons(args.output.parent, {args.output.name: without_nan(scores)})


def report(
    path: str, results: Sequence[Mapping[str, Any]], scores: Scores, evaluator: "SavedEvaluator"
) -> list[str]:
    """Lay out one file: what it holds, the 12 numbers of each task, each category."""
    images = len({one["image_id"] for one in results})
    total = len(evaluator.truth["images"])
    parts = [f"{path}: {len(results)} predictions on {images} of {total} images"]
    for task, metrics in scores.items():
        rows = [
            [size, *("" if key is None else number(metrics[key]) for key in keys)]
            for size, keys in BY_SIZE.items()
        ]
        parts.append(table([TASKS[task], *BY_SIZE["all"]], rows))
    if len(evaluator.categories) > 1:
        parts.append(categories(results, scores, evaluator))
    return parts


def categories(
    results: Sequence[Mapping[str, Any]], scores: Scores, evaluator: "SavedEvaluator"
) -> str:
    """Lay out the AP of each category, with how many objects and predictions it has."""
    objects = Counter(
        a["category_id"] for a in evaluator.truth["annotations"] if not a.get("iscrowd")
    )
    predictions = Counter(one["category_id"] for one in results)
    rows = [
        [
            one["name"],
            str(objects[one["id"]]),
            str(predictions[one["id"]]),
            *(number(metrics[f"AP-{one['name']}"]) for metrics in scores.values()),
        ]
        for one in evaluator.categories
    ]
    head = ["category", "objects", "predictions", *(f"{TASKS[task]} AP" for task in scores)]
    return table(head, rows)


def comparison(scores: Mapping[str, Scores]) -> str:
    """Lay out several files side by side, the best last: by the AP of masks if all have it."""
    tasks = [task for task in TASKS if any(task in one for one in scores.values())]
    main_task = next((t for t in reversed(tasks) if all(t in s for s in scores.values())), tasks[0])

    def value(path: str) -> float:
        ap = scores[path].get(main_task, {}).get("AP", math.nan)
        return -math.inf if math.isnan(ap) else ap

    rows = [
        [path, *(number(scores[path].get(t, {}).get(m, math.nan)) for t in tasks for m in COMPARED)]
        for path in sorted(scores, key=value)
    ]
    head = ["predictions", *(f"{TASKS[task]} {name}" for task in tasks for name in COMPARED)]
    return f"{table(head, rows)}\n\nThe best by the AP of {TASKS[main_task]} is last."


def table(head: list[str], rows: list[list[str]]) -> str:
    """Lay out a Markdown table, numbers to the right."""
    from tabulate import tabulate

    align = ["left", *["right"] * (len(head) - 1)]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True, colalign=align)


def number(percent: float) -> str:
    """Show two decimals; - where there is no object to find."""
    return "-" if math.isnan(percent) else f"{percent:.2f}"


def without_nan(scores: Mapping[str, Scores]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Turn NaN, which JSON does not know, into None."""
    return {
        path: {
            task: {name: None if math.isnan(value) else value for name, value in metrics.items()}
            for task, metrics in tasks.items()
        }
        for path, tasks in scores.items()
    }


if __name__ == "__main__":
    main()
