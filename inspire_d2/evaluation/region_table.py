"""What was found in volumes, in numbers: predictions.csv, a line a case and region."""

import contextlib
import csv
import fcntl
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import InputError
from .lesions import NEIGHBOURS

__all__ = ["RegionTable", "measure"]

COLUMNS = ("case", "region", "voxels", "ml", "parts", "seconds")


def measure(
    label_map: np.ndarray, regions: Mapping[str, Sequence[int]], spacing: Sequence[float] | None
) -> list[dict[str, Any]]:
    """Return voxels, millilitres and 26-connected parts of each region.

    label_map is (S, H, W), regions are label values by name, spacing of the three axes in mm, or
    None where it is not known, and so are no millilitres, "".
    """
    rows = []
    for name, values in regions.items():
        mask = np.isin(label_map, values)
        voxels = int(mask.sum())
        millilitres = "" if spacing is None else f"{voxels * math.prod(spacing) / 1000:.2f}"
        parts = ndimage.label(mask, NEIGHBOURS)[1]
        rows.append({"region": name, "voxels": voxels, "ml": millilitres, "parts": parts})
    return rows


class RegionTable:
    """predictions.csv: what it says of a case stays until that is predicted anew.

    Several processes may write to one file, each the rows of its cases. With ``replace_others``
    nothing stays of a file that has other columns.

    Raises:
        InputError: it cannot be read or written, or it is another tool's and not to be replaced.
    """

    def __init__(self, path: Path, *, replace_others: bool) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot be used: {error}.") from error
        with _alone(path.parent):
            self._write(self._read(replace_others=replace_others))

    def put(self, case: str, rows: list[dict[str, Any]]) -> None:
        """Write a case's rows in place of those that there are of it."""
        with _alone(self.path.parent):  # another process may have written since
            kept = [row for row in self._read(replace_others=True) if row["case"] != case]
            self._write(kept + [row | {"case": case} for row in rows])

    def _read(self, *, replace_others: bool) -> list[dict[str, Any]]:
        try:
            if not self.path.exists():
                return []
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                own = tuple(reader.fieldnames or COLUMNS) == COLUMNS
                rows = [row for row in reader if own and row.get("case")]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path} cannot be used: {error}.") from error
        if not own and not replace_others:
            raise InputError(
                f"{self.path} has other columns than {', '.join(COLUMNS)}: take --force to "
                "replace it, or another --output."
            )
        return rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        """Write the file in one step, so that a kill leaves the old one or the new."""
        part = self.path.with_name(self.path.name + ".part")
        try:
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
            part.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise InputError(f"{self.path} cannot be written: {error.strerror}.") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Run the block while no other process is in such a block of the folder.

    The lock is the folder's own: nothing stays behind, and it goes with a process that is killed.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # some network file systems lock no folders
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
