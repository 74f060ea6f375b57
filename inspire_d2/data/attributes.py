"""What is known of each image from an index: its centre, patient, sequence; and how to name one."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inspire_d2.data.layouts import Pair
from inspire_d2.data.tables import read_table
from inspire_d2.errors import InputError, first_few

__all__ = ["GROUP_COLUMNS", "ImageNames", "leak_warnings", "read_index"]

GROUP_COLUMNS = ("centre", "patient", "sequence")  # frames that share one may be near-duplicates


class ImageNames:
    """Finds images by what a list or an index calls them.

    That is the image's name, or that of its file, with or without folder and extension.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._of: dict[str, set[str]] = {}
        for pair in pairs:
            for alias in (pair.name, pair.file_name, pair.image.name, pair.image.stem):
                self._of.setdefault(unicodedata.normalize("NFC", alias), set()).add(pair.name)

    def __getitem__(self, alias: str) -> set[str]:
        """Return the names of the images that this may mean: one, none or several."""
        return self._of.get(unicodedata.normalize("NFC", alias), set())


def read_index(pairs: Sequence[Pair], index: Path) -> tuple[list[Pair], list[str]]:
    """Add the columns of a csv file with a column "name" to the attributes of the pairs.

    Returns the pairs, and the names of those that the index lacks; it may have others' rows.

    Raises:
        InputError: the file cannot be read, has no such column, names an image twice or several
            images at once, or none of them.
    """
    rows = read_table(index, "name")
    images = ImageNames(pairs)
    table: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    twice, several = [], []
    for row in rows:
        alias = row.pop("name")
        names = images[alias] or {alias}
        if len(names) > 1:
            several.append(alias)
        elif names <= seen:
            twice.append(alias)
        else:
            table[min(names)] = row
        seen |= names if len(names) == 1 else set()
    if several:
        raise InputError(
            f"the index {index} has {len(several)} names that fit several images:"
            f" {first_few(several)}; give them their folders"
        )
    if twice:
        raise InputError(f"the index {index} names {len(twice)} images twice: {first_few(twice)}")
    lacking = [pair.name for pair in pairs if pair.name not in table]
    if pairs and len(lacking) == len(pairs):
        theirs = f"such as {next(iter(table))!r}" if table else "of which it has none"
        raise InputError(
            f"the index {index} fits none of the {len(pairs)} images: its names, {theirs}, should"
            f" be the files', such as {pairs[0].name!r}"
        )
    known = [
        replace(pair, attributes={**pair.attributes, **table.get(pair.name, {})}) for pair in pairs
    ]
    return known, lacking


def leak_warnings(parts: dict[str, list[Pair]]) -> list[str]:
    """Return a sentence for each known grouping of images that the split parts."""
    sentences = []
    for column in GROUP_COLUMNS:
        where: dict[str, set[str]] = {}
        for part, pairs in parts.items():
            for pair in pairs:
                if pair.attributes.get(column):
                    where.setdefault(pair.attributes[column], set()).add(part)
        parted = sorted(value for value, names in where.items() if len(names) > 1)
        if parted:
            sentences.append(
                f"the split parts the images of {len(parted)} of {len(where)} values of {column}"
                f" ({first_few(parted)}); images of one {column} can be near-duplicates:"
                f" --split-column {column} keeps them together"
            )
    return sentences
