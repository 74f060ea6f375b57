"""Means over patients of volume metrics, and the table and files that tell of them."""

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

__all__ = ["NOTES", "RECORD_KEYS", "make_table", "summarize", "write_report"]

Record = dict[str, Any]  # one region of one volume, as volume.judge_volume makes it

RECORD_KEYS = {
    *("case", "patient", "region", "dice", "hd95", "assd"),
    *("lesion_precision", "lesion_recall", "lesion_f1"),
    *("true_lesions", "found_lesions", "predicted_lesions", "right_lesions"),
    *("true_voxels", "predicted_voxels"),
}
MEANS = {  # what a mean is called: the record's key
    "Dice": "dice",
    "HD95": "hd95",
    "ASSD": "assd",
    "lesion_precision": "lesion_precision",
    "lesion_recall": "lesion_recall",
    "lesion_F1": "lesion_f1",
}
COLUMNS = {  # the table's heads by metric
    "patients": "patients",
    "both_empty": "both empty",
    "missed": "missed",
    "false_alarm": "false alarm",
    "Dice": "Dice",
    "Dice_present": "Dice, present",
    "HD95": "HD95 mm",
    "ASSD": "ASSD mm",
    "lesion_precision": "lesion precision",
    "lesion_recall": "lesion recall",
    "lesion_F1": "lesion F1",
}
NOTES = (
    "Means over patients; a patient's figure is the mean of its volumes. Volumes in which neither "
    "truth nor prediction has the region (both empty) count with Dice 1, HD95 and ASSD 0, lesion "
    "figures 1. Those in which the truth alone has it (missed) or the prediction alone (false "
    "alarm) count with Dice 0, lesion figures 0, and the diagonal of the whole volume for HD95 and "
    "ASSD. Dice, present: over the volumes whose truth has the region. HD95: the larger of both "
    "directions' 95th percentiles. Lesions: 26-connected; one voxel in common is a hit; "
    "F1 = 2 TP / (2 TP + FP + FN), TP and FN true lesions, FP predicted ones."
)


def summarize(rows: Sequence[Record]) -> dict[str, float]:
    """Return the mean Dice of all regions, and each region's means and counts, "REGION METRIC"."""
    by_region = {name: _summarize_region(mine) for name, mine in _group(rows, "region").items()}
    metrics = {"Dice": _mean(region["Dice"] for region in by_region.values())}
    for name, region in by_region.items():
        metrics |= {f"{name} {metric}": value for metric, value in region.items()}
    return metrics


def make_table(rows: Sequence[Record], unscored: int = 0) -> str:
    """Lay the regions' means and counts out as a Markdown table, the definitions in a line below.

    Args:
        rows: the records of all volumes.
        unscored: how many more volumes have no truth.
    """
    body = []
    for name, mine in _group(rows, "region").items():
        metrics = _summarize_region(mine)
        body.append([name, *(_text(metrics.get(column)) for column in COLUMNS)])
    table = tabulate(
        body,
        ["region", *COLUMNS.values()],
        tablefmt="pipe",
        colalign=["left", *["right"] * len(COLUMNS)],
        disable_numparse=True,
    )
    volumes = f"Volumes: {len({row['case'] for row in rows})}."
    if unscored:
        volumes += f" Not scored, as they have no label: {unscored}."
    return f"{table}\n\n{volumes} {NOTES}"


def write_report(output_dir: str, rows: Sequence[Record], table: str) -> None:
    """Write volume_per_case.json, volume_per_case.csv and volume_table.md, each in one step."""
    os.makedirs(output_dir, exist_ok=True)
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    for name, text in (
        ("volume_per_case.json", json.dumps(rows, indent=1) + "\n"),
        ("volume_per_case.csv", lines.getvalue()),
        ("volume_table.md", table + "\n"),
    ):
        path = os.path.join(output_dir, name)
        with open(path + ".tmp", "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(path + ".tmp", path)


def _summarize_region(rows: Sequence[Record]) -> dict[str, float]:
    metrics = {metric: _patient_mean(rows, key) for metric, key in MEANS.items()}
    present = [row for row in rows if row["true_voxels"]]
    if present:
        metrics["Dice_present"] = _patient_mean(present, "dice")
    metrics["patients"] = len(_group(rows, "patient"))
    states = [(row["true_voxels"] > 0, row["predicted_voxels"] > 0) for row in rows]
    metrics["both_empty"] = states.count((False, False))
    metrics["missed"] = states.count((True, False))
    metrics["false_alarm"] = states.count((False, True))
    return metrics


def _patient_mean(rows: Sequence[Record], key: str) -> float:
    return _mean(_mean(row[key] for row in mine) for mine in _group(rows, "patient").values())


def _group(rows: Iterable[Record], key: str) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
