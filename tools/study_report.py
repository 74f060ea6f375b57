"""Write the results of tools/study.py: a json a run, a table, a picture."""

import contextlib
import io
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import instantiate
from pycocotools.coco import COCO

from inspire_d2.engine.config import load_config
from inspire_d2.evaluation.ap_interval import Matches, match, paired_ap_difference
from inspire_d2.evaluation.compare import Difference, paired_difference
from inspire_d2.visualization.gains import plot_gains

# A polyp is small where all of an image's polyps cover less than this share of it.
SMALL = 0.02


def write_report(runs: Sequence[Any], output: Path, baseline: str) -> None:
    """Write results/*.json, table.md and gains.png of finished runs (tools/study.py's Run).

    ``baseline`` is the variant that the others are compared with.
    """
    results = [read_result(run) for run in runs]
    folder = output / "results"
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        name = "{task}_{centre}_{variant}_seed{seed}.json".format(**result)
        (folder / name).write_text(json.dumps(result))
    text = table(results, read_matches(runs), baseline)
    (output / "table.md").write_text(text)
    print(text)
    rows = gains(results, baseline)
    if rows:
        plot_gains(rows, output / "gains.png", f"Dice points over {baseline}")
    print(f"Written to {output}: table.md, {'gains.png, ' if rows else ''}results/")


def read_result(run: Any) -> dict[str, Any]:
    """Read one run's scores; ``dice`` and ``small`` have an entry for each image with polyps."""
    scores = json.loads((run.folder / "evaluation.json").read_text())
    lines = [json.loads(x) for x in (run.folder / "metrics.json").read_text().splitlines()]
    times = [line["time"] for line in lines if "time" in line]
    images = json.loads((run.folder / "polyp_per_image.json").read_text())
    truth = json.loads((run.data / run.centre / "val.json").read_text())
    pixels = {image["id"]: image["height"] * image["width"] for image in truth["images"]}
    positives = [image for image in images if image["num_gt"]]
    cfg = load_config(str(run.folder / "config.yaml"))
    backbone = instantiate(cfg.model.backbone)
    return {
        "task": run.task,
        "variant": run.variant,
        "centre": run.centre,
        "seed": run.seed,
        "iterations": cfg.train.max_iter,
        "parameters": sum(p.numel() for p in backbone.parameters()),
        # None in so short a run that no iteration was timed
        "seconds": statistics.median(times) if times else None,
        "scores": {f"{t} {k}": v for t, part in scores.items() for k, v in part.items()},
        "dice": [image["dice"] for image in positives],
        "small": [image["gt_pixels"] < SMALL * pixels[image["image_id"]] for image in positives],
    }


def read_matches(runs: Sequence[Any]) -> dict[tuple[str, str, int], Matches]:
    """Match the masks of detectors' runs with the truth; by variant, centre and seed."""
    matches = {}
    truths: dict[str, COCO] = {}
    for run in runs:
        file = run.folder / "coco_instances_results.json"
        if not file.exists():
            continue
        if run.centre not in truths:
            with contextlib.redirect_stdout(io.StringIO()):
                truths[run.centre] = COCO(str(run.data / run.centre / "val.json"))
        found = match(truths[run.centre], json.loads(file.read_text()), "segm")
        matches[run.variant, run.centre, run.seed] = found
    return matches


def table(
    results: Sequence[dict[str, Any]],
    matches: dict[tuple[str, str, int], Matches],
    baseline: str,
) -> str:
    """Return a Markdown table: a row a variant, over the centres and seeds that it has.

    A line below it says where a difference, which is over the runs that both have, is over fewer.
    """
    has_ap = any("segm AP" in result["scores"] for result in results)
    base = _by_run(results, baseline)
    head = ["variant", "runs", "M parameters", "s/iteration", f"x {baseline}", "iterations"]
    head += [
        "Dice",
        "std",
        f"Dice - {baseline}",
        "95 % interval",
        "small polyps",
        f"- {baseline}",
        "95 % interval",
    ]
    head += ["mask AP", f"- {baseline}", "95 % interval"] if has_ap else []
    rows = []
    for variant in _variants(results):
        mine = _by_run(results, variant)
        first = next(iter(mine.values()))
        seconds = [r["seconds"] for r in mine.values() if r["seconds"] is not None]
        # The same model trained longer: its ratio would only show the machine's other load.
        longer = _is_trained_longer(first, next(iter(base.values()), first))
        pairs = (
            []
            if longer
            else [(r["seconds"], base[k]["seconds"]) for k, r in mine.items() if k in base]
        )
        ratios = [own / other for own, other in pairs if None not in (own, other)]
        dice = [100 * r["scores"]["polyp Dice"] for r in mine.values()]
        row = [variant, str(len(mine)), f"{first['parameters'] / 1e6:.2f}"]
        row += [f"{statistics.median(seconds):.2f}" if seconds else "-"]
        row += [f"{statistics.median(ratios):.2f}" if ratios else "-", str(first["iterations"])]
        row += [f"{statistics.mean(dice):.1f}", _shown(_std_over_seeds(mine))]
        for only_small in (False, True):
            difference = _difference(results, variant, baseline, only_small)
            if only_small:
                row.append(_shown(_mean_dice(mine.values(), only_small=True)))
            row += _cells(difference)
        if has_ap:
            row.append(f"{statistics.mean(r['scores']['segm AP'] for r in mine.values()):.1f}")
            row += _cells(_ap_difference(matches, variant, baseline))
        rows.append(row)
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    notes = _unpaired(results, baseline)
    return f"{text}\nDifferences are over the runs that both have: {notes}.\n" if notes else text


def _is_trained_longer(result: dict[str, Any], base: dict[str, Any]) -> bool:
    """Whether a result is of the baseline's model with another number of iterations."""
    names = all(one["variant"].partition("_")[0] == "plain" for one in (result, base))
    same_model = names and result["parameters"] == base["parameters"]
    return same_model and result["iterations"] != base["iterations"]


def gains(results: Sequence[dict[str, Any]], baseline: str) -> list[tuple[str, Difference]]:
    """Return each variant's Dice difference to ``baseline``, in points, all centres and each."""
    rows = []
    for variant in _variants(results):
        if variant == baseline:
            continue
        centres = sorted({r["centre"] for r in results if r["variant"] == variant})
        parts = [(variant, results)]
        if len(centres) > 1:
            parts += [
                (f"{variant}, {c}", [r for r in results if r["centre"] == c]) for c in centres
            ]
        for name, subset in parts:
            difference = _difference(subset, variant, baseline, only_small=False)
            if difference is not None:
                rows.append((name, difference))
    return rows


def _variants(results: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(result["variant"] for result in results))


def _by_run(results: Sequence[dict[str, Any]], variant: str) -> dict[tuple[str, int], Any]:
    return {(r["centre"], r["seed"]): r for r in results if r["variant"] == variant}


def _unpaired(results: Sequence[dict[str, Any]], baseline: str) -> str:
    """Say which variants share some of their runs with the baseline, but not all."""
    base = _by_run(results, baseline).keys()
    notes = []
    for variant in _variants(results):
        mine = _by_run(results, variant).keys()
        if mine != base and (both := len(mine & base)):
            notes.append(f"{variant} {both} of {len(mine)}, {baseline} {both} of {len(base)}")
    return "; ".join(notes)


def _difference(
    results: Sequence[dict[str, Any]], variant: str, baseline: str, only_small: bool
) -> Difference | None:
    """Compare a variant with another, in points of Dice, over the runs that both have."""
    mine, base = _by_run(results, variant), _by_run(results, baseline)
    pairs = defaultdict(list)
    for key in sorted(mine.keys() & base.keys()):
        chosen = np.array(mine[key]["small"]) if only_small else slice(None)
        pairs[key[0]].append(
            [100 * np.array(run["dice"])[chosen] for run in (mine[key], base[key])]
        )
    arrays = [np.array(pair) for pair in pairs.values()]  # (seeds, 2, images) a centre
    arrays = [array for array in arrays if array.shape[2]]
    if variant == baseline or not arrays:
        return None
    return paired_difference([a[:, 0] for a in arrays], [a[:, 1] for a in arrays])


def _ap_difference(
    matches: dict[tuple[str, str, int], Matches], variant: str, baseline: str
) -> Difference | None:
    """Compare a variant's mask AP with another's, in points, over the runs that both have."""
    pairs = defaultdict(list)
    for (name, centre, seed), mine in matches.items():
        if name == variant and (baseline, centre, seed) in matches:
            pairs[centre].append((mine, matches[baseline, centre, seed]))
    if variant == baseline or not pairs:
        return None
    return paired_ap_difference(
        [[mine for mine, _ in part] for part in pairs.values()],
        [[base for _, base in part] for part in pairs.values()],
    )


def _mean_dice(runs: Any, *, only_small: bool) -> float:
    values = [
        np.array(run["dice"])[np.array(run["small"])] if only_small else np.array(run["dice"])
        for run in runs
    ]
    means = [100 * v.mean() for v in values if v.size]
    return float(np.mean(means)) if means else float("nan")


def _std_over_seeds(runs: dict[tuple[str, int], Any]) -> float:
    """Return the standard deviation between seeds, its square averaged over the centres."""
    by_centre = defaultdict(list)
    for (centre, _), run in runs.items():
        by_centre[centre].append(100 * run["scores"]["polyp Dice"])
    variances = [statistics.variance(v) for v in by_centre.values() if len(v) > 1]
    return statistics.mean(variances) ** 0.5 if variances else float("nan")


def _shown(value: float) -> str:
    """Format a number; what one run or no image cannot tell is a dash."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def _cells(difference: Difference | None) -> list[str]:
    if difference is None or math.isnan(difference.mean):
        return ["-", "-"]
    return [f"{difference.mean:+.1f}", f"{difference.low:+.1f} to {difference.high:+.1f}"]
