"""Synthetic brain MRI with tumours, in BraTS's layout: to try the way from files to predictions.

Four channels of smooth noise in an ellipsoid, a tumour of three nested parts that is brighter or
darker than what surrounds it, by the channel. Not a substitute for real data.
"""

import os
from pathlib import Path

import numpy as np
from scipy import ndimage

from inspire_d2.data.synthetic_manifest import being_written, read_manifest
from inspire_d2.errors import InputError

__all__ = ["make_case", "write_synthetic_mri"]

# Label values from the outer part to the inner: oedema, core, enhancing tumour.
LABELS = (2, 1, 4)
# What each part adds to tissue of 1, in units of its deviation.
CONTRASTS = {
    "t1": (-1.0, -2.0, -1.0),
    "t1ce": (-0.5, -1.5, 4.0),
    "t2": (3.0, 2.0, 1.0),
    "flair": (4.0, 2.0, 2.0),
}
TISSUE, DEVIATION = 500.0, 60.0
MIN_SIZE = 16


def make_case(
    seed: int, number: int, shape: tuple[int, int, int]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw a case: its channels by name, int16, and its labels, uint8, all of ``shape``.

    Seed, number and shape determine it completely.
    """
    generator = np.random.default_rng((seed, number))
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij", sparse=True)
    radius = np.sqrt(sum((axis / 0.85) ** 2 for axis in axes))
    brain = radius < 1
    centre = generator.uniform(-0.4, 0.4, 3)
    stretch = generator.uniform(0.7, 1.3, 3)
    size = generator.uniform(0.2, 0.4)
    distance = np.sqrt(
        sum(((axis - c) / s) ** 2 for axis, c, s in zip(axes, centre, stretch, strict=True))
    )
    ragged = ndimage.gaussian_filter(generator.standard_normal(shape), min(shape) / 16)
    distance = distance * (1 + 0.15 * ragged / ragged.std())
    label = np.zeros(shape, np.uint8)
    for value, share in zip(LABELS, (1.0, 0.65, 0.4), strict=True):
        label[(distance < share * size) & brain] = value
    channels = {}
    for name, contrasts in CONTRASTS.items():
        texture = ndimage.gaussian_filter(generator.standard_normal(shape), 1.0)
        image = TISSUE + DEVIATION * texture / texture.std()
        for value, contrast in zip(LABELS, contrasts, strict=True):
            image[label == value] += DEVIATION * contrast
        channels[name] = np.where(brain, image, 0).astype(np.int16)
    return channels, label


def write_synthetic_mri(
    output: Path, count: int, seed: int = 0, shape: tuple[int, int, int] = (96, 96, 24)
) -> list[str]:
    """Write ``output``/CASE/CASE_{t1,t1ce,t2,flair,seg}.nii.gz; return the cases' names.

    A set of the same arguments that was not written to its end is begun again.

    Raises:
        InputError: a number out of its range, a folder that cannot be written to or holds cases.
    """
    if count < 1:
        raise InputError(f"--cases {count} must be 1 or more")
    if min(shape) < MIN_SIZE:
        raise InputError(f"--shape {' '.join(map(str, shape))}: each must be {MIN_SIZE} or more")
    settings = {"seed": seed, "shape": list(shape), "cases": count}
    goes_on = read_manifest(output) == {**settings, "complete": False}
    if not goes_on and os.path.isdir(output) and any(output.iterdir()):
        raise InputError(f"--output {output} holds files already: name another folder")
    import nibabel as nib  # an extra

    names = [f"Synthetic_{number:03d}" for number in range(count)]
    try:
        with being_written(output, settings):
            for number, name in enumerate(names):
                channels, label = make_case(seed, number, shape)
                os.makedirs(output / name, exist_ok=True)
                for part, data in {**channels, "seg": label}.items():
                    # as BraTS: 1 mm, axes to the left, to the back, up
                    image = nib.Nifti1Image(data, np.diag([-1.0, -1.0, 1.0, 1.0]))
                    nib.save(image, output / name / f"{name}_{part}.nii.gz")
    except OSError as error:
        raise InputError(f"--output {output} cannot be written: {error.strerror}") from error
    return names
