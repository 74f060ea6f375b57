"""Tables for the page: cells that are read, and sorted by a number."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Cell", "Table", "cell", "number", "percent", "plain_table"]

NOTHING = "–"


class Cell(NamedTuple):
    """What is shown, what is sorted by (a number, or None for text), and where it leads."""

    text: str
    value: float | None = None
    link: str = ""
    tone: str = ""  # a CSS class: "good", "bad"

    @property
    def sorted_by(self) -> str:
        """The value as JavaScript's Number reads it; what is no number goes below all."""
        if self.value is None or math.isnan(self.value):
            return "-Infinity"
        return str(self.value).replace("inf", "Infinity")


class Table(NamedTuple):
    """A table; a row's first cell heads it."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    note: str = ""
    sortable: bool = False
    folded: bool = False  # shown when its caption is clicked
    ids: Sequence[str] = ()  # of the rows, none or one each
    kind: str = "table"


def number(value: float | None, decimals: int = 3) -> Cell:
    """Show a number; a dash where there is none."""
    if value is None or math.isnan(value):
        return Cell(NOTHING, -math.inf)
    return Cell(f"{value:.{decimals}f}", float(value))


def percent(value: float | None, decimals: int = 1) -> Cell:
    """Show a fraction 0..1 in percent."""
    if value is None or math.isnan(value):
        return Cell(NOTHING, -math.inf)
    return Cell(f"{100 * value:.{decimals}f} %", float(value))


def cell(value: Any) -> Cell:
    """Show text, or a whole number."""
    if isinstance(value, Cell):
        return value
    if value is None or value == "":
        return Cell(NOTHING)
    if isinstance(value, int) and not isinstance(value, bool):
        return Cell(f"{value}", value)
    return Cell(str(value))


def plain_table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", **options: Any
) -> Table:
    """Make a table of cells, texts and whole numbers."""
    return Table(head, [[cell(value) for value in row] for row in rows], caption, **options)
