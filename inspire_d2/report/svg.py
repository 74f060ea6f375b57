"""Matplotlib's figures as SVG that stands within a page: its font, its colours, names to hover."""

import io
import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["drawing", "to_svg"]

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# Of a figure: text stays text, and names of files and classes are not read as mathematics.
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "inspire_d2",
    "text.parse_math": False,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
# What XML cannot hold and a folder's name can: control characters, bytes that are no UTF-8
UNFIT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_numbers = itertools.count(1)
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the report's style."""
    with matplotlib.rc_context(STYLE):
        yield


def to_svg(figure: Figure, label: str, titles: Mapping[str, str] | None = None) -> Markup:
    """Return a figure as an <svg> element without a size, which black parts let the page colour.

    Args:
        figure: drawn within :func:`drawing`.
        label: what a screen reader says of it.
        titles: by the link of a point, what is shown when the mouse is over it.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    for text in figure.findobj(Text):
        text.set_text(UNFIT.sub("\ufffd", text.get_text()))
    file = io.StringIO()
    with drawing():
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(_own_ids(file.getvalue()))
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    root.attrib |= {"role": "img", "aria-label": label}
    for link in root.iter(f"{{{SVG}}}a"):
        # A point's row in the table says the same, in less steps of the Tab key.
        link.set("tabindex", "-1")
        target = link.get(f"{{{XLINK}}}href", "")
        link.attrib.pop("target", None)
        if titles and target in titles:
            ElementTree.SubElement(link, f"{{{SVG}}}title").text = titles[target]
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _own_ids(text: str) -> str:
    """Give a figure's ids a prefix, as several figures share a page; let black be the text's."""
    prefix = f"f{next(_numbers)}-"
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)

    def pointed(match: re.Match) -> str:
        return f"{match[1]}{prefix if match[2] in ids else ''}{match[2]}{match[3]}"

    text = re.sub(r'(href="#)([^"]+)(")', pointed, text)
    text = re.sub(r"(url\(#)([^)]+)(\))", pointed, text)
    return text.replace("#000000", "currentColor")
