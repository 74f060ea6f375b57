"""Training curves from the ``metrics.json`` that Detectron2's JSONWriter leaves."""

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inspire_d2.errors import InputError

__all__ = ["Series", "draw_curves", "plot_curves", "read_metrics"]

logger = logging.getLogger(__name__)

Series = dict[str, list[tuple[int, float]]]  # name: its (iteration, value), in order

# What Detectron2 records while it trains looks like TASK/METRIC too.
_TRAINING_TASKS = ("fast_rcnn", "keypoint_rcnn", "mask_rcnn", "retinanet", "roi_head", "rpn")
_AP = ("AP", "AP50", "AP75")
_PERCENT = {  # task: of its many metrics, what is read at a glance
    **dict.fromkeys(("bbox", "segm", "keypoints", "box_proposals"), _AP),
    "sem_seg": ("mIoU", "fwIoU"),
    "panoptic_seg": ("PQ",),
}
_OTHER_UNITS = ("per_image", "HD95", "ASSD")  # may be below 1, too


def plot_curves(metrics_json: str | os.PathLike, output_png: str | os.PathLike) -> None:
    """Draw losses, learning rate and evaluation metrics over the iterations into a PNG.

    Raises:
        InputError: as :func:`read_metrics`.
    """
    figure = draw_curves(read_metrics(metrics_json))
    Path(output_png).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output_png)


def read_metrics(metrics_json: str | os.PathLike) -> Series:
    """Read a file of one JSON object a line, each with an ``iteration``.

    After a resume an iteration may occur twice: its last value counts. Lines that a killed process
    left incomplete are skipped, and so are values that are not finite.

    Raises:
        InputError: no such file, or no line in it is a record with an iteration.
    """
    try:
        lines = Path(metrics_json).read_text(errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {metrics_json}: {error.strerror}") from error
    values: dict[str, dict[int, float]] = {}
    skipped, found = 0, False
    for line in filter(str.strip, lines):
        try:
            record = json.loads(line)
            iteration = int(record["iteration"])
        except (ValueError, KeyError, TypeError):
            skipped += 1
            continue
        found = True
        for name, value in record.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name != "iteration" and number and math.isfinite(value):
                values.setdefault(name, {})[iteration] = value
    if not found:
        raise InputError(f"{metrics_json} holds no line with an iteration: is it a metrics.json?")
    if skipped:
        logger.warning("Skipped %d incomplete lines of %s.", skipped, metrics_json)
    return {name: sorted(points.items()) for name, points in values.items()}


def draw_curves(series: Mapping[str, list[tuple[int, float]]]) -> Figure:
    """Draw what :func:`read_metrics` returns: a figure with one panel for each kind of value.

    The panels are the losses (the total in black), the learning rate, and the evaluation metrics:
    in percent (COCO's AP, AP50 and AP75, mIoU, PQ) and as fractions (Dice and others). A kind that
    does not occur has no panel.
    """
    losses = [name for name in series if "loss" in name and "/" not in name]
    losses.sort(key=lambda name: (name != "total_loss", name))
    percent, fraction = _evaluation_names(series)
    panels = [
        ("Losses", losses),
        ("Learning rate", [name for name in ("lr",) if name in series]),
        ("Evaluation (%)", percent),
        ("Evaluation (0 to 1)", fraction),
    ]
    panels = [(title, names) for title, names in panels if names]
    columns = 1 if len(panels) == 1 else 2
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(6.5 * columns, 4 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for k, (title, names) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, k + 1)
        _draw_panel(axes, title, names, series)
    return figure


def _evaluation_names(series: Mapping[str, list[tuple[int, float]]]) -> tuple[list[str], list[str]]:
    """Return the names of the metrics in percent and of those that are fractions."""
    percent, fraction = [], []
    for name, points in series.items():
        task, _, metric = name.partition("/")
        if not metric or task.startswith(_TRAINING_TASKS):
            continue
        if task in _PERCENT:
            if metric in _PERCENT[task]:
                percent.append(name)
        elif not metric.endswith(_OTHER_UNITS) and all(0 <= value <= 1 for _, value in points):
            fraction.append(name)
    return percent, fraction


def _draw_panel(
    axes: Axes, title: str, names: Iterable[str], series: Mapping[str, list[tuple[int, float]]]
) -> None:
    for name in names:
        iterations, values = zip(*series[name], strict=True)
        style = {"lw": 1.4, "alpha": 0.9}
        if name == "total_loss":
            style = {"lw": 2.2, "color": "black"}
        elif "/" in name:  # evaluations are few: show each
            style |= {"marker": "o", "ms": 4}
        axes.plot(iterations, values, label=name, **style)
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if title == "Evaluation (%)":
        axes.set_ylim(0, 100)
    elif title == "Evaluation (0 to 1)":
        axes.set_ylim(0, 1.02)
    else:
        axes.set_ylim(bottom=0)
    if len(axes.lines) > 1 or "/" in axes.lines[0].get_label():
        axes.legend(fontsize=9, frameon=False, ncols=2 if len(axes.lines) > 5 else 1)
