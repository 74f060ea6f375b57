"""Polyp metrics over sets of images: of all, and of each centre that images are from.

A row is one image: what ``judge`` returns, with ``centre`` where that is known, and for images with
polyps ``protocol``, what ``score_map`` returns. Shape shorthand: T = 256 thresholds.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from inspire_d2.data.coco_checks import read_coco

__all__ = [
    "image_centres",
    "image_figures",
    "markdown",
    "protocol_figures",
    "summarize",
    "tabulate",
    "write",
]

Row = Mapping[str, Any]

PROTOCOL = "PraNet"
BINARY_FIGURES = ("Dice", "IoU", "recall", "fp_per_image", "specificity")
PROTOCOL_FIGURES = ("mDice", "maxDice", "mIoU", "maxIoU", "wFm", "Sm", "mEm", "maxEm", "MAE")
NO_CENTRE = "(none)"  # of a set of which only some images have one
NOTES = (
    "Dice, IoU: means over images with polyps. fp_per_image: over all images. specificity: images"
    " without polyps that have no prediction. The row all is of all images together, not the mean"
    " of the others. A cell is empty where a figure has no images.",
    "mDice to MAE: PraNet's protocol, over images with polyps alone: maps stretched to 0..255,"
    " means (m) and maxima (max) over 256 thresholds; the score threshold does not enter.",
)


def image_centres(dicts: Sequence[Mapping[str, Any]], dataset_name: str) -> dict[Any, str]:
    """Return the centre of each image id that has one, from the dicts or the data set's COCO json.

    ``load_coco_json`` drops an image's ``centre``, so the json that Detectron2's metadata names is
    read again.
    """
    centres = {item["image_id"]: item.get("centre") for item in dicts}
    if set(centres.values()) <= {None} and dataset_name in MetadataCatalog:
        json_file = MetadataCatalog.get(dataset_name).as_dict().get("json_file")
        if json_file is not None:
            images = read_coco(json_file)["images"]
            centres = {image["id"]: image.get("centre") for image in images}
    return {key: str(centre) for key, centre in centres.items() if centre not in (None, "")}


def summarize(rows: Sequence[Row]) -> dict[str, float]:
    """Return the figures at the score threshold, without those that have no images."""
    positives = [row for row in rows if row["num_gt"]]
    negatives = [row for row in rows if _is_negative(row)]
    metrics = {}
    if positives:
        metrics["Dice"] = _mean(row["dice"] for row in positives)
        metrics["IoU"] = _mean(row["iou"] for row in positives)
        polyps = sum(row["num_gt"] for row in positives)
        metrics["recall"] = sum(row["found"] for row in positives) / polyps
    if negatives:
        metrics["specificity"] = _mean(not row["num_pred"] for row in negatives)
    if judged := [row for row in rows if row["num_gt"] or _is_negative(row)]:
        metrics["Dice_all"] = _mean(row["dice"] for row in judged)
    metrics["fp_per_image"] = _mean(row["false_positives"] for row in rows)
    return metrics


def protocol_figures(rows: Iterable[Row]) -> dict[str, float]:
    """Return the protocol's figures; none where no image has been scored by it.

    ``m``: the mean over thresholds of the mean over images; ``max``: the best of these means.
    """
    scores = [row["protocol"] for row in rows if "protocol" in row]
    if not scores:
        return {}
    figures = {}
    for name, short in (("Dice", "Dice"), ("IoU", "IoU"), ("E", "Em")):
        curve = np.mean([one[name] for one in scores], axis=0, dtype=np.float64)  # (T,)
        figures[f"m{short}"] = float(curve.mean())
        figures[f"max{short}"] = float(curve.max())
    for name in ("wFm", "Sm", "MAE"):
        figures[name] = _mean(one[name] for one in scores)
    return {name: figures[name] for name in PROTOCOL_FIGURES}


def image_figures(row: Row) -> dict[str, Any]:
    """Return a row with figures in place of curves; the maxima are of a set, not of an image."""
    figures = protocol_figures([row])
    own = {name: value for name, value in figures.items() if not name.startswith("max")}
    return {**row, **({"protocol": own} if own else {})}


def tabulate(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a line for each centre, in order of their names, and one for all images.

    Figures that have no images are None; without any figure of the protocol it has no columns.
    """
    centres = sorted({row["centre"] for row in rows if "centre" in row})
    groups = {one: [row for row in rows if row.get("centre") == one] for one in centres}
    rest = [row for row in rows if "centre" not in row]
    if groups and rest:
        groups[NO_CENTRE] = rest
    with_protocol = any("protocol" in row for row in rows)
    lines = []
    for centre, members in [*groups.items(), ("all", rows)]:
        positives = sum(1 for row in members if row["num_gt"])
        figures = summarize(members) | protocol_figures(members)
        names = BINARY_FIGURES + (PROTOCOL_FIGURES if with_protocol else ())
        counts = {"images": len(members), "positives": positives}
        counts["negatives"] = sum(1 for row in members if _is_negative(row))
        lines.append({"centre": centre, **counts, **{name: figures.get(name) for name in names}})
    return lines


def write(
    folder: str, lines: Sequence[dict[str, Any]], dataset_name: str, score_threshold: float
) -> None:
    """Write ``lines`` as polyp_table.md, .json and .csv, each with what they are of."""
    protocol = PROTOCOL if "mDice" in lines[0] else None
    head = {"dataset": dataset_name, "protocol": protocol, "score_threshold": score_threshold}
    path = Path(folder)
    content = json.dumps({**head, "rows": lines}, indent=1)
    (path / "polyp_table.json").write_text(content + "\n", encoding="utf-8")
    with open(path / "polyp_table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*head, *lines[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**head, **line} for line in lines)
    text = [
        f"# {dataset_name}: protocol {protocol or '-'}, score threshold {score_threshold:g}",
        markdown(lines),
        *NOTES[: 2 if protocol else 1],
    ]
    (path / "polyp_table.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lay out a Markdown table, figures with three decimals."""
    names = list(lines[0])
    rows = [[_cell(line[name]) for name in names] for line in lines]
    align = [":--", *["--:"] * (len(names) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (names, align, *rows))


def _is_negative(row: Row) -> bool:
    """Whether an image shows no polyp; not where a crowd of them may be."""
    return not row["num_gt"] and not row.get("crowd_pixels")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).replace("|", r"\|")  # a centre may be named so


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
