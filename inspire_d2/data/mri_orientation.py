"""How a volume lies in its file's array, and turning one to lie as others do."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

__all__ = ["DIRECTIONS", "Turn", "common_orientation", "orientation", "slice_direction"]

DIRECTIONS = ("from left to right", "from back to front", "from foot to head")  # or back again


def orientation(entry: Mapping[str, Any]) -> str | None:
    """Return where slices, rows and columns (S, H, W) of a case lead to, such as "SLP".

    That is to superior, left, posterior. None where its source, such as pictures, does not say.
    """
    if not entry["oriented"]:
        return None
    axes = [*"RAS", *"LPI"]
    codes = [
        axes[int(body) + (0 if sign > 0 else 3)]
        for body, sign in nib.io_orientation(np.asarray(entry["affine"]))
    ]
    return codes.pop(entry["axis"]) + "".join(codes)


def common_orientation(entries: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the orientation that all cases share; None where they differ, or do not say."""
    found = {orientation(entry) for entry in entries}
    return found.pop() if len(found) == 1 else None


def slice_direction(entry: Mapping[str, Any]) -> int | None:
    """Return the number in DIRECTIONS of where a case's slices follow one another.

    None where its source, such as pictures, does not say.
    """
    codes = orientation(entry)
    return None if codes is None else _body_axis(codes[0])


class Turn(NamedTuple):
    """A way to bring slices (S, ..., H, W) to another orientation, and back: mirrored, transposed.

    ``transposed`` says whether H and W change places, ``mirrored`` which axes of the result run
    the other way: 0, -2, -1.
    """

    transposed: bool
    mirrored: tuple[int, ...]

    @classmethod
    def between(cls, source: str | None, target: str | None) -> "Turn":
        """Return the turn from one :func:`orientation` to another.

        It is none where one of them is None, or where their slices do not go the same way.
        """
        if not source or not target or _body_axis(source[0]) != _body_axis(target[0]):
            return cls(False, ())
        transposed = _body_axis(source[1]) != _body_axis(target[1])
        if transposed:
            source = source[0] + source[2] + source[1]
        places = zip((0, -2, -1), source, target, strict=True)
        return cls(transposed, tuple(place for place, own, other in places if own != other))

    def apply(self, slices: np.ndarray) -> np.ndarray:
        """Turn slices (S, ..., H, W)."""
        slices = np.swapaxes(slices, -2, -1) if self.transposed else slices
        return np.ascontiguousarray(np.flip(slices, self.mirrored))

    def undo(self, slices: np.ndarray) -> np.ndarray:
        """Turn slices (S, ..., H, W) back."""
        slices = np.flip(slices, self.mirrored)
        return np.ascontiguousarray(np.swapaxes(slices, -2, -1) if self.transposed else slices)


def _body_axis(code: str) -> int:
    return next(number for number, ends in enumerate(("LR", "PA", "IS")) if code in ends)
