"""The index of a prepared MRI set: its format, and whether its arrays are what it says."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inspire_d2.errors import InputError

__all__ = ["MRI_FORMAT", "array_problem", "read_mri_index", "stored_shape"]

MRI_FORMAT = "inspire_d2 mri 2"


def _numbers(value: Any, count: int, kind: type | tuple[type, ...] = (int, float)) -> bool:
    return isinstance(value, list) and len(value) == count and all(
        isinstance(one, kind) and not isinstance(one, bool) and math.isfinite(one) for one in value
    )  # fmt: skip


def _is_name(value: Any) -> bool:
    """Whether files of a folder can be called so."""
    return isinstance(value, str) and value[:1] not in ("", ".") and not set(value) & {*"/\\\0"}


def _is_crop(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(
        _numbers(bounds, 2, int) and 0 <= bounds[0] < bounds[1] for bounds in value
    )  # fmt: skip


def _is_count(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key.isdecimal() and isinstance(counts, list) and _numbers(counts, len(counts), int)
        for key, counts in value.items()
    )


# What an entry must hold.
_KEYS: dict[str, Callable[[Any], bool]] = {
    "case": _is_name,
    "patient": lambda value: isinstance(value, str),
    "image": lambda value: isinstance(value, str),
    "label": lambda value: value is None or isinstance(value, str),
    "shape": lambda value: _numbers(value, 3, int) and min(value) > 0,
    "axis": lambda value: type(value) is int and 0 <= value < 3,
    "crop": _is_crop,
    "skull_stripped": lambda value: isinstance(value, bool),
    "spacing": lambda value: _numbers(value, 3) and min(value) > 0,
    "affine": lambda value: (
        isinstance(value, list) and len(value) == 4 and all(_numbers(row, 4) for row in value)
    ),
    "oriented": lambda value: isinstance(value, bool),
    "reference": lambda value: value is None or isinstance(value, str),
    "voxels": _is_count,
}


def read_mri_index(file: Path | str) -> dict[str, Any]:
    """Return the content of an index.

    Raises:
        InputError: it is not there, none, of another version of the format, or lacks something.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the index {file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"the index {file} is not a json file: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != MRI_FORMAT:
        raise InputError(
            f"{file} is not an index of the format {MRI_FORMAT!r} but of {found!r}: make it anew"
            " with datasets/prepare_mri.py"
        )
    for key in ("channels", "labels", "cases"):
        if not isinstance(content.get(key), list):
            raise InputError(f"the index {file} has no list {key!r}: make it anew")
    if not content["cases"]:
        raise InputError(f"the index {file} has no cases")
    if not all(type(value) is int and 1 <= value <= 255 for value in content["labels"]):
        raise InputError(f"the index {file} has labels that are not 1..255: make it anew")
    seen = set()
    for number, entry in enumerate(content["cases"]):
        if problem := _entry_problem(entry):
            raise InputError(f"case {number} of the index {file} {problem}: make it anew")
        if entry["case"] in seen:
            raise InputError(f"the index {file} has the case {entry['case']} twice")
        seen.add(entry["case"])
    return content


def _entry_problem(entry: Any) -> str | None:
    """Return what is wrong with what an index says of a case, None where nothing is."""
    lacking = [key for key in _KEYS if not isinstance(entry, dict) or key not in entry]
    if lacking:
        return f"has no {', '.join(lacking)}"
    for key, is_right in _KEYS.items():
        if not is_right(entry[key]):
            return f"has a {key} that cannot be, {str(entry[key])[:60]}"
    depth = stored_shape(entry)[0]
    if any(stop > size for (_, stop), size in zip(entry["crop"], entry["shape"], strict=True)):
        return f"has a crop {entry['crop']} beyond its shape {entry['shape']}"
    if any(len(counts) != depth for counts in entry["voxels"].values()):
        return f"counts the voxels of other than its {depth} slices"
    return None


def stored_shape(entry: dict[str, Any]) -> tuple[int, int, int]:
    """Return (S, H, W) of a case's arrays, which its crop and axis say."""
    sizes = [stop - start for start, stop in entry["crop"]]
    depth = sizes.pop(entry["axis"])
    return depth, sizes[0], sizes[1]


def array_problem(entry: dict[str, Any], folder: Path | str, channels: int) -> str | None:
    """Return what is wrong with the arrays of a case, None where nothing is.

    Their headers and the files' sizes are looked at, not their values, and whether they were made
    anew since the index was, of other files or along another axis. ``folder`` is the index's.
    """
    depth, height, width = stored_shape(entry)
    problem = _npy_problem(
        os.path.join(folder, entry["image"]), np.float16, (depth, channels, height, width)
    )
    if problem is None and entry["label"] is not None:
        path = os.path.join(folder, entry["label"])
        problem = _npy_problem(path, np.uint8, (depth, height, width))
    return problem or _record_problem(entry, os.path.join(folder, _record_of(entry["image"])))


def _record_of(image: str) -> str:
    """Return where the json lies that is written last of a case, beside its image's array."""
    return image.removesuffix(".image.npy") + ".json"


def _record_problem(entry: dict[str, Any], record: str) -> str | None:
    try:
        made = json.loads(Path(record).read_bytes())["digest"]
    except FileNotFoundError:
        return f"{record} is missing: the arrays of {entry['case']} are not finished"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{record} cannot be used ({error})"
    if made != entry.get("digest"):
        return f"the arrays of {entry['case']} were made anew since, of other files or axis"
    return None


def _npy_problem(path: str, dtype: type, shape: tuple[int, ...]) -> str | None:
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            found, by_columns, kind = np.lib.format.read_array_header_1_0(file)
            size = file.tell() + int(np.prod(found)) * kind.itemsize
            on_disk = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError) as error:
        return f"{path} is no array ({error})"
    if (found, kind, by_columns) != (shape, np.dtype(dtype), False):
        order = ", stored by columns" * by_columns
        return f"{path} is {kind} {found}{order}, not {np.dtype(dtype)} {shape}"
    if size != on_disk:
        return f"{path} has {on_disk} bytes, not {size}"
    return None
