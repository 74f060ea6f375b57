"""How a data set is divided: at random, by lists, by a column, as published, or not at all."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from inspire_d2.data.attributes import ImageNames
from inspire_d2.data.layouts import Pair
from inspire_d2.data.problems import Problems
from inspire_d2.data.tables import MEANT_COLUMNS, read_text
from inspire_d2.errors import InputError, first_few

__all__ = ["AllSplit", "ColumnSplit", "ListSplit", "OwnSplit", "RatioSplit", "Split"]


class Split(Protocol):
    """A rule that divides pairs into parts, each of which becomes a json of that name."""

    def divide(self, pairs: Sequence[Pair], problems: Problems) -> dict[str, list[Pair]]:
        """Return the parts; what the rule names but the data does not hold goes to problems."""

    def describe(self) -> dict[str, Any]:
        """Return the rule as it is written into the json."""


@dataclass(frozen=True)
class RatioSplit:
    """A random share ``ratio`` (0..1) for training, the rest for validation.

    The order is that of the sha256 of seed and name: the same on every machine.
    """

    ratio: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise InputError(f"--ratio {self.ratio} does not lie between 0 and 1")

    def divide(self, pairs: Sequence[Pair], problems: Problems) -> dict[str, list[Pair]]:
        shuffled = sorted(pairs, key=self._rank)
        chosen = {pair.name for pair in shuffled[: round(self.ratio * len(pairs))]}
        return _two_parts(pairs, lambda pair: pair.name in chosen, problems)

    def _rank(self, pair: Pair) -> str:
        return hashlib.sha256(f"{self.seed}:{pair.name}".encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        return {"rule": "ratio", "ratio": self.ratio, "seed": self.seed}


@dataclass(frozen=True)
class ListSplit:
    """Two files of names, one per line: of an image, with or without folder and extension."""

    train_list: Path
    val_list: Path

    def divide(self, pairs: Sequence[Pair], problems: Problems) -> dict[str, list[Pair]]:
        images = ImageNames(pairs)
        chosen = [self._choose(f, images, problems) for f in (self.train_list, self.val_list)]
        for name in sorted(chosen[0] & chosen[1]):
            problems.add("names in both lists", name)
        parts = [[pair for pair in pairs if pair.name in names] for names in chosen]
        return _check_filled({"train": parts[0], "val": parts[1]}, problems)

    def _choose(self, file: Path, images: ImageNames, problems: Problems) -> set[str]:
        chosen: set[str] = set()
        for line in filter(None, (line.strip() for line in read_text(file).splitlines())):
            names = images[line]
            if len(names) != 1:
                what = "that fit several images" if names else "that no image has"
                problems.add(f"names in a list {what}", f"{line} ({file.name})")
            elif names <= chosen:
                problems.add("names twice in a list", f"{line} ({file.name})")
            chosen |= names if len(names) == 1 else set()
        return chosen

    def describe(self) -> dict[str, Any]:
        return {"rule": "lists", "train_list": self.train_list.name, "val_list": self.val_list.name}


@dataclass(frozen=True)
class ColumnSplit:
    """Validation takes the images whose ``column`` holds one of ``val_values``."""

    column: str
    val_values: tuple[str, ...]

    def divide(self, pairs: Sequence[Pair], problems: Problems) -> dict[str, list[Pair]]:
        known = sorted({column for pair in pairs for column in pair.attributes})
        column = self.column
        if column not in known and column.lower() in MEANT_COLUMNS:
            column = column.lower()  # as an index's header is read
        if column not in known:
            problems.add("unknown columns", f"{column} (known: {first_few(known) or 'none'})")
            return {}
        values = set()
        for pair in pairs:
            if column not in pair.attributes:
                problems.add("images that are not in the index", pair.name)
            elif not pair.attributes[column]:
                problems.add(f"images without a value of {column}", pair.name)
            values.add(pair.attributes.get(column))
        have = first_few(sorted(value for value in values if value))
        for value in self.val_values:
            if value not in values:
                problems.add(f"unknown values of {column}", f"{value} (known: {have})")
        return _two_parts(
            pairs, lambda pair: pair.attributes.get(column) not in self.val_values, problems
        )

    def describe(self) -> dict[str, Any]:
        return {"rule": "column", "column": self.column, "val_values": list(self.val_values)}


@dataclass(frozen=True)
class OwnSplit:
    """The division a data set is published with (PraNet's training set and five test sets).

    Several test sets together are one more part, "test".
    """

    def divide(self, pairs: Sequence[Pair], problems: Problems) -> dict[str, list[Pair]]:
        if any(not pair.part for pair in pairs):
            raise InputError("--own-split: this layout is not published with a split of its own")
        parts: dict[str, list[Pair]] = {}
        for pair in pairs:
            parts.setdefault(pair.part, []).append(pair)
        tests = [name for name in parts if name.startswith("test_")]
        if len(tests) > 1:
            parts["test"] = [pair for pair in pairs if pair.part in tests]
        return parts

    def describe(self) -> dict[str, Any]:
        return {"rule": "own"}


@dataclass(frozen=True)
class AllSplit:
    """No division: everything goes into one json of that name."""

    name: str

    def __post_init__(self) -> None:
        too_long = len(self.name.encode()) > 200
        if too_long or not re.fullmatch(r"\w[\w.-]*", self.name):
            raise InputError(
                f"--all {self.name!r} is no file name of up to 200 letters, digits, '.' and '-'"
            )

    def divide(self, pairs: Sequence[Pair], problems: Problems) -> dict[str, list[Pair]]:
        return {self.name: list(pairs)}

    def describe(self) -> dict[str, Any]:
        return {"rule": "all"}


def _two_parts(
    pairs: Sequence[Pair], in_train: Callable[[Pair], bool], problems: Problems
) -> dict[str, list[Pair]]:
    parts: dict[str, list[Pair]] = {"train": [], "val": []}
    for pair in pairs:
        parts["train" if in_train(pair) else "val"].append(pair)
    return _check_filled(parts, problems)


def _check_filled(parts: dict[str, list[Pair]], problems: Problems) -> dict[str, list[Pair]]:
    for name, pairs in parts.items():
        if not pairs:
            problems.add("parts of the split without an image", name)
    return parts
