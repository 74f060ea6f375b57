"""What a page is made of, besides tables; the template has a macro for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from markupsafe import Markup

__all__ = ["Card", "Facts", "Figure", "Fold", "Gallery", "Page", "Picture", "Section", "Text"]


class Figure(NamedTuple):
    """A plot; figures that follow one another stand side by side where there is room."""

    svg: Markup
    caption: str = ""
    kind: str = "figure"


class Facts(NamedTuple):
    """Names and values, after some words on them."""

    rows: Sequence[tuple[str, str]]
    lead: str = ""
    beside: bool = False  # a figure, where there is room
    kind: str = "facts"


class Text(NamedTuple):
    """A paragraph."""

    text: str
    kind: str = "text"


class Fold(NamedTuple):
    """Text as it is in a file, shown when its title is clicked."""

    title: str
    text: str
    kind: str = "fold"


class Picture(NamedTuple):
    """An image within the page."""

    url: str
    width: int
    height: int
    alt: str


class Card(NamedTuple):
    """A case: its pictures, and what is to be known of it."""

    title: str
    link: str  # to its row in the table
    lines: Sequence[str]
    pictures: Sequence[Picture]


class Gallery(NamedTuple):
    """Cases side by side."""

    title: str
    note: str
    cards: Sequence[Card]
    kind: str = "gallery"


@dataclass
class Section:
    """A part of the page with an entry in its list of contents."""

    id: str
    title: str
    blocks: list[Any] = field(default_factory=list)

    def add(self, *blocks: Any) -> None:
        """Add what there is of blocks, leaving out None."""
        self.blocks += [block for block in blocks if block is not None]


@dataclass
class Page:
    """All that the template is given."""

    title: str
    kicker: str  # a word or two above the title
    headlines: list[str]
    key_figures: list[Any] = field(default_factory=list)
    key_note: str = ""
    key_table: Any = None  # of a comparison, in place of key figures
    notes: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
