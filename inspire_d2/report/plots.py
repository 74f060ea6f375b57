"""The report's plots."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from inspire_d2.report.calibration import BINS, Calibration
from inspire_d2.report.svg import drawing, to_svg
from inspire_d2.visualization.curves import Series, draw_curves

__all__ = ["Point", "curves", "reliability", "scatter", "size_bars"]

BLUE, ORANGE, GREY = "#2f7fd6", "#d9722b", "#8a8f98"
LINE = 40  # letters that stand side by side in the smallest figure


class Point(NamedTuple):
    """A case in a scatter: where it is, what its tip says, and the link to its row."""

    x: float
    y: float
    tip: str
    link: str
    marked: bool = False  # in the second colour


def curves(series: Series) -> list[Markup]:
    """Draw losses, learning rate and metrics over the iterations, each kind as a figure."""
    losses = [name for name in series if "loss" in name and "/" not in name]
    kinds = {"training losses": losses, "learning rate": [n for n in ("lr",) if n in series]}
    for name, points in series.items():
        # One evaluation, at the end, is no curve: the tables have it.
        if "/" in name and len(points) > 1:
            task = name.partition("/")[0]
            kinds.setdefault({"segm": "bbox"}.get(task, task), []).append(name)
    figures = []
    for kind, names in kinds.items():
        with drawing():
            figure = draw_curves({name: series[name] for name in names})
            if figure.axes:
                figure.set_size_inches(6.5, 3.6 * len(figure.axes))
                figures.append(to_svg(figure, f"{kind} over the iterations"))
    return figures


def scatter(
    points: Sequence[Point],
    *,
    x: str,
    y: str,
    label: str,
    legend: tuple[str, str] | None = None,
    log: bool = False,
    diagonal: bool = False,
) -> Markup:
    """Draw a point for each case, with a link to its row; y, and with ``diagonal`` x, is 0..1.

    Args:
        x, y: what the axes are.
        label: for screen readers.
        legend: names of the points that are not marked, and of those that are.
        log: of x.
        diagonal: draw the line of equal values.
    """
    with drawing():
        figure, axes = _axes(5.2, 4.2)
        if diagonal:
            axes.plot([0, 1], [0, 1], color=GREY, lw=1, zorder=1)
            axes.set_xlim(-0.03, 1.03)
            axes.set_aspect("equal")
        for marked, colour in ((False, BLUE), (True, ORANGE)):
            mine = [point for point in points if point.marked == marked]
            if not mine:
                continue
            dots = axes.scatter(
                [point.x for point in mine],
                [point.y for point in mine],
                s=26,
                color=colour,
                alpha=0.6,
                linewidths=0,
                label=legend[marked] if legend else None,
                zorder=2,
            )
            dots.set_urls([point.link for point in mine])
        if log:
            # Labels of matplotlib's own are mathematics, which STYLE takes as plain text.
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(-0.03, 1.03)
        axes.set(xlabel=_in_lines(x), ylabel=_in_lines(y))
        if legend and len({point.marked for point in points}) > 1:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=2, fontsize=10)
        return to_svg(figure, label, {point.link: point.tip for point in points})


def reliability(calibrations: Mapping[str, Calibration]) -> Markup:
    """Draw what share of each bin of scores was right, and below how many scores it has.

    Args:
        calibrations: by the run's name, one or two, of which none is empty.
    """
    with drawing():
        figure = Figure(figsize=(5.2, 4.9), layout="constrained")
        axes, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
        width, shown = 1 / BINS / len(calibrations), []
        for k, ((name, one), colour) in enumerate(
            zip(calibrations.items(), (BLUE, ORANGE), strict=False)
        ):
            there = one.counts > 0
            axes.plot(one.mean_scores[there], one.shares_right[there], "o-", color=colour, ms=5)
            whose = f"{_in_lines(name)}: " if len(calibrations) > 1 else ""
            shown.append((axes.lines[-1], f"{whose}ECE {one.error:.3f}"))
            left = np.arange(BINS) / BINS + k * width
            below.bar(left, one.counts, width * 0.92, align="edge", color=colour, linewidth=0)
        of = next(iter(calibrations.values())).of
        right = "matched at IoU 0.5" if of == "detections" else "truly polyp"
        axes.set(ylabel=f"share {right}", xlim=(0, 1), ylim=(-0.02, 1.02))
        below.set(xlabel="score" if of == "detections" else "probability", ylabel=of)
        if of == "pixels":
            below.set_yscale("log")
            below.yaxis.set_minor_formatter(NullFormatter())
        below.yaxis.set_major_formatter(EngFormatter(sep=""))
        _legend(axes, shown)
        for one in (axes, below):
            one.grid(alpha=0.25)
        return to_svg(figure, f"reliability of {of}: share right by score")


def size_bars(
    names: Sequence[str], groups: Mapping[str, Sequence[float]], *, x: str, y: str, label: str
) -> Markup:
    """Draw bars side by side: for each size in ``names`` a value of each group."""
    with drawing():
        figure, axes = _axes(5.2, 3.4)
        places, width, shown = np.arange(len(names)), 0.8 / len(groups), []
        for k, ((group, values), colour) in enumerate(
            zip(groups.items(), (BLUE, ORANGE, GREY), strict=False)
        ):
            at = places - 0.4 + (k + 0.5) * width
            bars = axes.bar(at, values, width * 0.94, color=colour, linewidth=0)
            shown.append((bars, _in_lines(group)))
            axes.bar_label(bars, [f"{v:g}" if v else "0" for v in values], fontsize=9, padding=1)
        axes.set_xticks(places, names)
        axes.set(xlabel=x, ylabel=y)
        axes.margins(y=0.14)
        _legend(axes, shown)
        return to_svg(figure, label)


def _legend(axes: Axes, shown: Sequence[tuple[Any, str]]) -> None:
    """Name what is drawn, above it, side by side where that fits.

    Both are handed over: of labels that it looks for, matplotlib leaves out what begins with _.
    """
    letters = sum(len(label) for _, label in shown)  # in a smaller font than the axes'
    columns = len(shown) if letters <= 1.1 * LINE else 1
    handles, labels = zip(*shown, strict=True)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    axes.legend(handles, labels, ncols=columns, fontsize=10, **place)


def _in_lines(name: str) -> str:
    """Break a long name, such as a run's, at a separator; of a very long one show both ends."""
    if len(name) > 3 * LINE:
        name = f"{name[:LINE]}…{name[-LINE:]}"
    lines = []
    while len(name) > LINE:
        cut = 1 + max(name.rfind(one, LINE // 2, LINE) for one in " ,_-/.")
        lines.append(name[: cut or LINE])
        name = name[cut or LINE :]
    return "\n".join([*lines, name])


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    return figure, axes
