"""A collection of everything that is wrong with a set of files, reported at once."""

import os
from pathlib import Path

from inspire_d2.errors import InputError, first_few

__all__ = ["Problems"]


class Problems:
    """Gather problems by kind, so that a user sees all of them after one run.

    Files are shown relative to ``root``, the data set's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._prefix = os.path.join(os.path.abspath(root), "")
        self._items: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, kind: str, item: object) -> None:
        """Note one more ``item`` (a name, perhaps with a detail) with this ``kind`` of problem."""
        self._items.setdefault(kind, []).append(str(item).replace(self._prefix, ""))

    def raise_if_any(self, outcome: str = "cannot be used, nothing was written") -> None:
        """Raise one :class:`InputError`: a line for each kind, its count, its first ten items."""
        if not self._items:
            return
        lines = [f"  {kind} ({len(v)}): {first_few(v)}" for kind, v in self._items.items()]
        raise InputError(f"{self._root} {outcome}\n" + "\n".join(lines))
