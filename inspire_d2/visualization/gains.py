"""A picture of differences and their intervals: who gains, and is it more than chance."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inspire_d2.evaluation.compare import Difference

__all__ = ["plot_gains"]

CLEAR, UNCLEAR = "#1b7a3d", "#8a94a0"


def plot_gains(rows: Sequence[tuple[str, Difference]], path: Path, unit: str) -> None:
    """Draw a row for each (name, difference), its mean and its interval, and write a png.

    ``unit`` says what the differences are, such as "Dice points over plain". Rows whose interval
    leaves out 0 are green.
    """
    figure = Figure(figsize=(8, 1.2 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for position, (_, difference) in enumerate(rows):
        colour = CLEAR if difference.is_clear else UNCLEAR
        axes.plot([difference.low, difference.high], [position] * 2, color=colour, lw=3)
        axes.plot(difference.mean, position, "o", color=colour, ms=7)
    axes.axvline(0, color="black", lw=1)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit}: mean and interval")
    axes.grid(axis="x", alpha=0.3)
    FigureCanvasAgg(figure).print_png(path)
