"""Predictions as NIfTI: label maps on the source's own grid."""

import gzip
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from inspire_d2.data.mri_files import BadFileError, read_header
from inspire_d2.data.mri_index import stored_shape
from inspire_d2.errors import InputError
from inspire_d2.files import written_in_one_step

__all__ = ["restore", "write_label_map"]


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
    with written_in_one_step(path) as file:
        file.write(content)


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
