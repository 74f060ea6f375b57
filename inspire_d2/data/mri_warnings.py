"""What prepare_mri tells of a set whose volumes can be used, but perhaps not as they are meant."""

import math
from collections.abc import Mapping
from typing import Any

from inspire_d2.data.mri_index import stored_shape
from inspire_d2.data.mri_orientation import DIRECTIONS, orientation, slice_direction
from inspire_d2.errors import first_few, warn

__all__ = ["pixel_size", "sizes_differ", "warn_of_differences", "warn_of_skulls"]

_SIZES = 1.1  # how many times as large pixels are to be told
_WHOLE = 0.75  # nnU-Net's bound: of the volume, what is left where a brain alone is not 0

Entries = Mapping[str, Mapping[str, Any]]  # by the cases' names


def warn_of_differences(entries: Entries) -> None:
    """Say where the volumes do not all lie the same way in their arrays, or differ in scale."""
    unknown = [name for name, one in entries.items() if one["reference"] and not one["oriented"]]
    if unknown:
        warn(
            f"{len(unknown)} cases ({first_few(unknown, 3)}) do not say how they lie, their qform "
            "and sform are unset: they are taken to lie as the others do"
        )
    sizes = {name: pixel_size(one) for name, one in entries.items() if one["reference"]}
    if sizes:
        smallest, largest = min(sizes, key=sizes.get), max(sizes, key=sizes.get)
        if sizes_differ(sizes[smallest], sizes[largest]):
            warn(
                f"the slices' pixels go from {sizes[smallest]:.3g} mm ({smallest}) to "
                f"{sizes[largest]:.3g} mm ({largest}), and nothing is resampled: where that is not "
                "meant to be learned, bring the volumes to one spacing first"
            )
    directions = _grouped({name: slice_direction(entry) for name, entry in entries.items()})
    known = [(direction, names) for direction, names in directions if direction is not None]
    if len(known) > 1:
        named = [(DIRECTIONS[direction], names) for direction, names in known]
        warn(f"the slices do not go the same way: {_told(named)}")
        return
    orientations = _grouped({name: orientation(entry) for name, entry in entries.items()})
    known = [(codes, names) for codes, names in orientations if codes is not None]
    if len(known) > 1:
        warn(
            "some cases are turned or mirrored, and trained on as they are: slices, rows and"
            f" columns lead to {_told(known)}"
        )


def warn_of_skulls(entries: Entries) -> None:
    """Say where volumes that are taken to be skull-stripped fill their arrays as heads do."""
    full = [
        name
        for name, entry in entries.items()
        if math.prod(stored_shape(entry)) >= _WHOLE * math.prod(entry["shape"])
    ]
    if full:
        warn(
            f"{len(full)} cases ({first_few(full, 3)}) are taken to be skull-stripped, but are not "
            "0 in most of their volume: give --no-skull-stripped where the skull is there, "
            "--skull-stripped where it is not"
        )


def pixel_size(entry: Mapping[str, Any]) -> float:
    """Return the size in mm of a pixel of a case's slices, the geometric mean of its sides."""
    return math.prod(mm for axis, mm in enumerate(entry["spacing"]) if axis != entry["axis"]) ** 0.5


def sizes_differ(one: float, other: float) -> bool:
    """Whether pixels of two sizes differ by more than a model may be thought to bear."""
    return max(one, other) > _SIZES * min(one, other)


def _grouped(kinds: dict[str, Any]) -> list[tuple[Any, list[str]]]:
    """Return each kind with its cases, the most frequent first."""
    groups: dict[Any, list[str]] = {}
    for name, kind in kinds.items():
        groups.setdefault(kind, []).append(name)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def _told(groups: list[tuple[str, list[str]]]) -> str:
    return "; ".join(
        f"{kind} in {len(names)} case{'s'[: len(names) > 1]} ({first_few(names, 3)})"
        for kind, names in groups
    )
