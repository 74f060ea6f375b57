"""The results as a picture: each subject's cost as a multiple of the baseline's."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .arithmetic import paired_ratios, spread
from .results import Measurement, Results
from .subjects import BASELINE

__all__ = ["draw_ratios"]

COLUMNS = 2
LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # readable on the line at 1
BASELINE_COLOR, OURS_COLOR, PEER_COLOR = "#7f7f7f", "#1f6fb4", "#d9a441"


def draw_ratios(results: Results, output_png: Path) -> bool:
    """Draw a panel of bars for each measurement; return False where none has a ratio."""
    panels = [found for found in results.measurements if _ratios(found)]
    if not panels:
        return False
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    bars = max(len(_ratios(found)) for found in panels)
    figure = Figure(figsize=(6.5 * columns, (0.9 + 0.28 * bars) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, found in zip(axes, panels, strict=False):
        _draw_panel(ax, found)
    for ax in list(axes)[len(panels) :]:
        ax.set_axis_off()
    figure.savefig(output_png, dpi=110)
    return True


def _ratios(found: Measurement) -> dict[str, list[float]]:
    baseline = found.values.get(BASELINE, [])
    ratios = {name: paired_ratios(values, baseline) for name, values in found.values.items()}
    return {name: values for name, values in ratios.items() if values}


def _draw_panel(ax: Axes, found: Measurement) -> None:
    spreads = {name: spread(values) for name, values in _ratios(found).items()}
    colors = [
        BASELINE_COLOR if name == BASELINE else OURS_COLOR if "inspire" in name else PEER_COLOR
        for name in spreads
    ]
    medians = [s.median for s in spreads.values()]
    errors = [
        [s.median - s.low for s in spreads.values()],
        [s.high - s.median for s in spreads.values()],
    ]
    ax.barh(list(spreads), medians, color=colors, xerr=errors, ecolor="black", capsize=2)
    ax.axvline(1, color="black", linewidth=0.8, linestyle=":")
    right = max(s.high for s in spreads.values())
    for row, s in enumerate(spreads.values()):
        ax.text(s.high + 0.015 * right, row, f"{s.median:.2f}", va="center", fontsize=8, bbox=LABEL)
    ax.set_xlim(0, 1.1 * right)
    ax.invert_yaxis()  # as in the table, from the top
    ax.tick_params(labelsize=8)
    ax.set_title(str(found).replace(": ", "\n"), fontsize=9)
    ax.set_xlabel(
        f"multiple of {BASELINE}'s (bar: median; whisker: interquartile range)", fontsize=7
    )
