"""The parts of a page on volumes: figures of each region, of each case."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inspire_d2.errors import first_few
from inspire_d2.evaluation.compare import paired_difference
from inspire_d2.evaluation.volume_report import COLUMNS, NOTES
from inspire_d2.report.blocks import Figure, Section, Text
from inspire_d2.report.plots import Point, scatter
from inspire_d2.report.subject import Subject
from inspire_d2.report.tables import Table, cell, number, plain_table

__all__ = ["compare_volumes", "volume_sections"]

Row = dict[str, Any]


def volume_sections(subject: Subject) -> list[Section]:
    """Lay out a run's regions, its cases, and truth size against Dice."""
    results = Section("results", "Results")
    results.add(_region_table(subject))
    if not subject.volumes:
        return [results]
    points = [
        Point(
            max(row["true_voxels"], 0.5),
            row["dice"],
            f"{row['case']}, {row['region']}: Dice {row['dice']:.3f}",
            f"#{_row_id(k)}",
        )
        for k, row in enumerate(subject.volumes)
    ]
    svg = scatter(
        points,
        x="voxels of the truth",
        y="Dice",
        label="Dice of each region of each case by its size",
        log=True,
    )
    results.add(Figure(svg, "Each dot is a region of a case; a region without a voxel is at 0.5."))
    cases = Section("cases", "Every case")
    cases.add(_case_table(subject.volumes))
    return [results, cases]


def compare_volumes(ours: Subject, theirs: Subject) -> Section | None:
    """Lay out two runs' Dice of each region of the cases that both have; None where none is."""
    pairs = _pairs(ours.volumes, theirs.volumes)
    if not pairs:
        return None
    section = Section("results", "Results")
    left_out = _left_out(pairs, ours.volumes, theirs.volumes)
    if left_out:
        section.add(Text(left_out))
    head = [ours.name, theirs.name, "difference", "95 % interval"]
    rows = []
    for region in dict.fromkeys(a["region"] for a, _ in pairs):
        left, right = _patient_means([pair for pair in pairs if pair[0]["region"] == region])
        rows.append([region, *difference_cells(left, right)])
    note = (
        "Means over patients; a patient's figure is the mean of its volumes. Paired percentile "
        "bootstrap over patients, of whom few make the interval too narrow."
    )
    section.add(plain_table(["region", *head], rows, "Dice", note=note))
    points = [
        Point(b["dice"], a["dice"], f"{a['case']}, {a['region']}", f"#{_row_id(k)}")
        for k, (a, b) in enumerate(pairs)
    ]
    svg = scatter(
        points,
        x=f"Dice, {theirs.name}",
        y=f"Dice, {ours.name}",
        label="Dice of both runs for each region of each case",
        diagonal=True,
    )
    section.add(Figure(svg, f"Each dot is a region of a case; above the line {ours.name} leads."))
    rows = [
        [
            a["case"],
            a["region"],
            a["true_voxels"],
            number(a["dice"]),
            number(b["dice"]),
            number(a["dice"] - b["dice"]),
        ]
        for a, b in pairs
    ]
    head = ["case", "region", "voxels", ours.name, theirs.name, "difference"]
    ids = [_row_id(k) for k in range(len(rows))]
    section.add(plain_table(head, rows, "Dice of every case", sortable=True, ids=ids))
    return section


def _patient_means(pairs: Sequence[tuple[Row, Row]]) -> list[list[float]]:
    """Return each run's mean Dice of each patient, whose volumes are no evidence of their own."""
    patients: dict[str, list[tuple[float, float]]] = {}
    for a, b in pairs:
        patients.setdefault(a["patient"], []).append((a["dice"], b["dice"]))
    means = [np.mean(dice, axis=0) for dice in patients.values()]
    return [[float(mean[run]) for mean in means] for run in (0, 1)]


def difference_cells(ours: Sequence[float], theirs: Sequence[float], decimals: int = 3) -> list:
    """Return the means of paired scores, their difference and its interval, as cells."""
    difference = paired_difference([np.array([ours], float)], [np.array([theirs], float)])
    tone = ("good" if difference.mean > 0 else "bad") if difference.is_clear else ""
    shown = [f"{value:+.{decimals}f}" for value in difference]
    # A bootstrap of one case draws nothing but it.
    interval = f"{shown[1]} to {shown[2]}" if len(ours) > 1 else "-"
    tone = tone if len(ours) > 1 else ""
    return [
        number(float(np.mean(ours)), decimals),
        number(float(np.mean(theirs)), decimals),
        cell(shown[0])._replace(value=difference.mean, tone=tone),
        cell(interval)._replace(value=difference.low),
    ]


def _pairs(ours: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[Row, Row]]:
    other = {(row["case"], row["region"]): row for row in theirs}
    pairs = [(row, other.get((row["case"], row["region"]))) for row in ours]
    return [(a, b) for a, b in pairs if b and a["true_voxels"] == b["true_voxels"]]


def _left_out(pairs: Sequence[tuple[Row, Row]], ours: Sequence[Row], theirs: Sequence[Row]) -> str:
    """Say which cases' figures are not compared; "" where all are."""
    compared = {(a["case"], a["region"]) for a, _ in pairs}
    rows = [(row["case"], row["region"]) for row in (*ours, *theirs)]
    cases = dict.fromkeys(case for case, region in rows if (case, region) not in compared)
    if not cases:
        return ""
    whole = len({case for case, _ in compared} - cases.keys())
    return (
        f"Compared on {whole} cases. Left out, at least in one region, are those that one run "
        f"alone was scored on, or whose truth differs ({len(cases)}): {first_few(list(cases))}."
    )


def _region_table(subject: Subject) -> Table | None:
    metrics = subject.evaluation.get("volume", {})
    names = dict.fromkeys(name.rpartition(" ")[0] for name in metrics if " " in name)
    rows = []
    for region in names:
        values = [metrics.get(f"{region} {column}") for column in COLUMNS]
        rows.append([region, *(number(v) if isinstance(v, float) else cell(v) for v in values)])
    if not rows:
        return None
    return plain_table(["region", *COLUMNS.values()], rows, "By region", note=NOTES)


def _case_table(volumes: Sequence[Row]) -> Table:
    columns = {
        "dice": "Dice",
        "hd95": "HD95 mm",
        "assd": "ASSD mm",
        "lesion_recall": "lesion recall",
        "lesion_precision": "lesion precision",
    }
    rows = [
        [
            row["case"],
            row["patient"],
            row["region"],
            *(number(row[key]) for key in columns),
            row["true_voxels"],
            row["predicted_voxels"],
        ]
        for row in volumes
    ]
    head = ["case", "patient", "region", *columns.values(), "true voxels", "predicted voxels"]
    ids = [_row_id(k) for k in range(len(rows))]
    return plain_table(head, rows, "Every case", sortable=True, ids=ids)


def _row_id(index: int) -> str:
    return f"volume-{index}"
