"""One volume from its files: read, checked, cropped to what is not empty, normalised."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from inspire_d2.data.mri_files import BadFileError, Volume, read_masks, read_nifti, read_pictures
from inspire_d2.data.mri_layouts import Case
from inspire_d2.errors import InputError

__all__ = ["PreparedCase", "load_case", "read_case"]

# How far, in voxels, the corners of two files of a case may lie apart: headers are rounded.
_MAX_SHIFT = 0.05
_ROUNDING = 1e-3  # of label values that were stored as fractions
_FLOAT16_MAX = float(np.finfo(np.float16).max)
_FLOAT16_LEAST = np.finfo(np.float16).smallest_subnormal

Found = list[tuple[str, str]]  # problems: kinds and items


@dataclass(frozen=True)
class PreparedCase:
    """A volume as it is trained on: ``image`` float16 (S, C, H, W), ``label`` uint8 (S, H, W).

    Slices are taken along one axis of the source; H and W are the other two in their order, and
    all three are cropped to the voxels that are not zero in some channel or labelled. Each channel
    has a mean of 0 and a deviation of 1, over the whole crop, or, where ``entry`` says that it is
    ``skull_stripped``, over what is not outside of the brain; outside, and there alone, it is 0.
    ``label`` is None where there is no label file. ``entry`` describes the case as the index of a
    prepared set does, but for where the arrays lie.
    """

    image: np.ndarray
    label: np.ndarray | None
    entry: dict[str, Any]


def load_case(case: Case, axis: int = 2, *, skull_stripped: bool = True) -> PreparedCase:
    """Read a case into memory, with slices along ``axis`` of its files' arrays.

    Where it is ``skull_stripped`` zeros lead from its surroundings to the brain, and do not count.

    Raises:
        InputError: its files cannot be used; it says all that is wrong with them.
    """
    prepared, problems = read_case(case, axis, skull_stripped=skull_stripped)
    if prepared is None:
        found = "; ".join(f"{kind}: {item}" for kind, item in problems)
        raise InputError(f"the case {case.name} cannot be used: {found}")
    return prepared


def read_case(
    case: Case, axis: int = 2, *, skull_stripped: bool = True
) -> tuple[PreparedCase | None, Found]:
    """Read a case as :func:`load_case` does, but return what is wrong: kinds and items."""
    if axis not in (0, 1, 2):
        raise InputError(f"--axis {axis} is not 0, 1 or 2")
    problems: Found = []
    channels: list[np.ndarray] = []
    first = foreground = label = None
    for name, volume in _read_images(case, problems):
        if first is None:
            first, foreground = volume, np.zeros_like(volume.data, bool)
        if _same_grid(first, volume, name, problems) and _varies(volume.data, name, problems):
            foreground |= volume.data != 0
            channels.append(volume.data)
    found = _read_label(case, problems)
    if found is not None and (first is None or _same_grid(first, found[1], found[0], problems)):
        label = _whole_numbers(found[1].data, found[0], problems)
    if problems:
        return None, problems
    crop = _bounds(foreground if label is None else foreground | (label > 0))
    window = tuple(slice(*bounds) for bounds in crop)
    inside = _filled(foreground[window]) if skull_stripped else None
    channels = [_normalised(channel[window], inside) for channel in channels]
    image = np.stack([np.moveaxis(channel, axis, 0) for channel in channels], axis=1)
    image = np.ascontiguousarray(image)  # np.save keeps another order, which is refused
    if label is not None:
        label = np.ascontiguousarray(np.moveaxis(label[window], axis, 0))
    entry = {
        "case": case.name,
        "patient": case.patient,
        "shape": list(first.data.shape),
        "axis": axis,
        "crop": crop,
        "skull_stripped": skull_stripped,
        "spacing": list(first.spacing),
        "affine": first.affine.tolist(),
        "oriented": first.oriented,
        "reference": None if case.slices else str(case.images[0]),
        "voxels": {} if label is None else _count_labels(label),
    }
    if case.slices:
        entry["slices"] = list(case.slices)
    return PreparedCase(image, label, entry), []


def _read_images(case: Case, problems: Found) -> Iterator[tuple[str, Volume]]:
    """Yield the channels, float32, with the name to call them; note and skip those broken."""
    if case.slices:
        pictures = read_pictures(case.images, problems)
        for number, channel in enumerate(case.channels if pictures is not None else ()):
            data = pictures[..., number].astype(np.float32)
            yield f"{case.name}, channel {channel}", _of_pictures(data)
        return
    for path in case.images:
        try:
            yield str(path), read_nifti(path, np.float32)
        except BadFileError as error:
            problems.append((error.kind, error.item))


def _read_label(case: Case, problems: Found) -> tuple[str, Volume] | None:
    """Return the label with the name to call it; None where there is none, or it is broken."""
    if case.slices and case.labels:
        masks = read_masks(case.labels, problems)
        return None if masks is None else (case.name, _of_pictures(masks))
    try:
        return (str(case.labels[0]), read_nifti(case.labels[0])) if case.labels else None
    except BadFileError as error:
        problems.append((error.kind, error.item))
        return None


def _of_pictures(data: np.ndarray) -> Volume:
    return Volume(data, np.eye(4), (1.0, 1.0, 1.0), oriented=False)


def _same_grid(first: Volume, volume: Volume, name: str, problems: Found) -> bool:
    """Whether a file has the voxels of the case's first image; note what differs."""
    shape = first.data.shape
    if volume.data.shape != shape:
        sizes = f"{volume.data.shape}, the first image {shape}"
        problems.append(
            ("files of another shape than their case's first image", f"{name} ({sizes})")
        )
        return False
    corners = np.array(list(itertools.product(*((0, size - 1) for size in shape))), float)
    apart = nib.affines.apply_affine(first.affine, corners)
    apart -= nib.affines.apply_affine(volume.affine, corners)
    shift = float(np.linalg.norm(apart, axis=1).max())
    if shift > _MAX_SHIFT * nib.affines.voxel_sizes(first.affine).min():
        detail = f"{name} (corners up to {shift:.3g} mm apart)"
        problems.append(("files of another affine than their case's first image", detail))
        return False
    return True


def _varies(data: np.ndarray, name: str, problems: Found) -> bool:
    """Whether an image can be normalised; note why not."""
    wrong = data.size - int(np.count_nonzero(np.isfinite(data)))
    if wrong:
        problems.append(("images with NaN or infinite voxels", f"{name} ({wrong})"))
        return False
    values = data[data != 0]
    if not values.size:
        problems.append(("images of zeros alone", name))
    elif values.min() == values.max():
        problems.append(("images of one value alone", f"{name} ({values[0]:g})"))
    else:
        return True
    return False


def _filled(foreground: np.ndarray) -> np.ndarray:
    """Return what is not outside: outside are the zeros that lead, face to face, to a border.

    Such as nnU-Net's mask for normalisation: zeros within the brain belong to it.
    """
    parts, count = ndimage.label(~foreground)
    outside = np.zeros(count + 1, bool)
    for axis in range(foreground.ndim):
        for end in (0, -1):
            outside[np.take(parts, end, axis)] = True
    outside[0] = False  # the number of what is foreground
    return ~outside[parts]


def _normalised(data: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """Return the z-scores over what is ``inside``, float16; the rest is 0. None is everything."""
    values = data if inside is None else data[inside]
    mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    scores = data - np.float32(mean)
    scores /= np.float32(deviation)
    np.clip(scores, -_FLOAT16_MAX, _FLOAT16_MAX, out=scores)
    scores = scores.astype(np.float16)
    scores[scores == 0] = _FLOAT16_LEAST  # 0 is outside
    return scores if inside is None else scores * inside


def _whole_numbers(data: np.ndarray, name: str, problems: Found) -> np.ndarray | None:
    """Return the label values as uint8; None, with a note, where they are no such numbers."""
    if data.dtype.kind == "f":
        whole = np.rint(data)
        with np.errstate(invalid="ignore"):  # NaN and infinity are none
            wrong = data.size - int(np.count_nonzero(np.abs(data - whole) <= _ROUNDING))
        if wrong:
            problems.append(("labels that are not whole numbers", f"{name} ({wrong} voxels)"))
            return None
        data = whole
    low, high = data.min(), data.max()
    if low < 0 or high > 255:
        problems.append(("labels outside 0..255", f"{name} ({low:g} to {high:g})"))
        return None
    return data.astype(np.uint8)


def _bounds(foreground: np.ndarray) -> list[list[int]]:
    """Return [start, stop) along each axis of the smallest box that holds all ``foreground``."""
    bounds = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        where = np.flatnonzero(foreground.any(axis=others))
        bounds.append([int(where[0]), int(where[-1]) + 1])
    return bounds


def _count_labels(label: np.ndarray) -> dict[str, list[int]]:
    """Count the voxels of each label value that is there, in each slice."""
    counts = np.stack([np.bincount(part.ravel(), minlength=256) for part in label])
    values = np.flatnonzero(counts.any(axis=0)).tolist()
    return {str(value): counts[:, value].tolist() for value in values if value}
