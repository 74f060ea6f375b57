"""Predictions as NIfTI: from regions' probabilities to a label map on the source's own grid."""

import contextlib
import gzip
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from inspire_d2.data.mri_files import BadFileError, read_header
from inspire_d2.data.mri_index import stored_shape
from inspire_d2.errors import InputError

__all__ = ["paint", "region_labels", "restore", "write_label_map"]


def region_labels(regions: Mapping[str, Sequence[int]], labels: Sequence[int]) -> dict[str, int]:
    """Return each region's own label: the smallest of the set's that no later region has.

    ``regions`` are label values by name, the outer first: {"WT": [1, 2, 4], "TC": [1, 4], "ET":
    [4]} own 2, 1 and 4.

    Raises:
        InputError: a region has no label of its own in the set, so that it cannot be written.
    """
    own = {}
    names = list(regions)
    for number, name in enumerate(names):
        later = {value for other in names[number + 1 :] for value in regions[other]}
        candidates = (set(regions[name]) & set(labels)) - later
        if not candidates:
            raise InputError(
                f"the region {name} ({list(regions[name])}) has no label of its own among the set's"
                f" {list(labels)}: regions go from the outer to the inner, each with a label that"
                " the later ones lack"
            )
        own[name] = int(min(candidates))
    return own


def paint(
    probabilities: Any,
    regions: Mapping[str, Sequence[int]],
    labels: Sequence[int],
    threshold: float = 0.5,
) -> np.ndarray:
    """Make a label map, uint8 (S, H, W), of the K regions' probabilities (K, S, H, W).

    Where a region reaches the threshold its own label is painted, later regions over earlier ones.
    ``probabilities`` is an array or a tensor on the CPU.
    """
    own = region_labels(regions, labels)
    if len(probabilities) != len(own):
        raise InputError(f"there are {len(probabilities)} maps for {len(own)} regions")
    label_map = np.zeros(tuple(probabilities.shape[1:]), np.uint8)
    for label, probability in zip(own.values(), probabilities, strict=True):
        label_map[np.asarray(probability >= threshold)] = label
    return label_map


def restore(entry: Mapping[str, Any], cropped: np.ndarray) -> np.ndarray:
    """Put an array (S, H, W) of a case's crop back into its source's shape and order of axes."""
    if cropped.shape != stored_shape(entry):
        raise InputError(
            f"the label map of {entry['case']} is {cropped.shape}, not {stored_shape(entry)}"
        )
    whole = np.zeros(entry["shape"], cropped.dtype)
    whole[tuple(slice(*bounds) for bounds in entry["crop"])] = np.moveaxis(
        cropped, 0, entry["axis"]
    )
    return whole


def write_label_map(entry: Mapping[str, Any], label_map: np.ndarray, path: Path | str) -> None:
    """Write a label map, uint8 (S, H, W) of a case's crop, as NIfTI on the source's grid.

    The header is that of the source image, with its affine, forms, spacing and units, but for the
    type of the voxels; where the image is gone, the entry's affine is taken. The file is there
    whole, or not at all.

    Raises:
        InputError: ``path`` does not end with .nii.gz or .nii, or cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path} does not end with .nii.gz or .nii")
    data = restore(entry, np.asarray(label_map, np.uint8))
    header = _reference_header(entry)
    if header is None:
        image = nib.Nifti1Image(data, np.asarray(entry["affine"], np.float64))
        image.header.set_xyzt_units("mm")
    else:
        header.set_data_dtype(np.uint8)
        header["cal_min"] = header["cal_max"] = 0  # the image's range of brightness
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        image = kind(data, header.get_best_affine(), header)
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = gzip.compress(content, 6, mtime=0)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _reference_header(entry: Mapping[str, Any]) -> nib.Nifti1Header | None:
    """Return the source image's header; None, said in the log, where it is gone or another."""
    reference = entry["reference"]
    if reference is None:  # the source are pictures
        return None
    try:
        header = read_header(Path(reference))
        if header.get_data_shape() == tuple(entry["shape"]):
            return header
        why = f"its shape is {header.get_data_shape()}, not {tuple(entry['shape'])}"
    except BadFileError as error:
        why = error.item
    logging.getLogger(__name__).warning(
        f"{entry['case']}: the source image {reference} cannot be used ({why}); the label map gets"
        " the affine that was stored when the set was prepared"
    )
    return None
