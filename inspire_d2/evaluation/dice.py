"""Overlap and surface distance of two masks of one volume.

Shape shorthand in this module: S, H, W (voxels along the array's three axes). ``spacing`` is a
voxel's size along S, H, W in mm, in this order.
"""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from ..errors import InputError

__all__ = ["crop_to_foreground", "dice", "surface_distances", "volume_diagonal"]


def dice(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return ``2 |P & T| / (|P| + |T|)`` of two bool masks; 1 where both are empty."""
    _check_pair(predicted, true)
    total = int(np.count_nonzero(predicted)) + int(np.count_nonzero(true))
    return 2 * int(np.count_nonzero(predicted & true)) / total if total else 1.0


def surface_distances(
    predicted: np.ndarray, true: np.ndarray, spacing: Sequence[float], worst: float
) -> tuple[float, float]:
    """Return HD95 and the average symmetric surface distance, in mm, by MONAI.

    A mask's surface is its voxels that have one outside the mask among their six neighbours; beyond
    the array's end all is outside. Each surface voxel's distance is that from its centre to the
    nearest centre of the other mask's surface voxels.

    - HD95: the 95th percentile (linear between neighbouring ranks, as numpy's) of the predicted
      surface's distances, and of the true surface's; the larger of the two. Some libraries take one
      percentile of both together, which comes out lower or equal.
    - Average: the mean of all distances of both surfaces together.

    Where a mask is empty MONAI returns NaN or infinity. Here both distances are 0 if both masks
    are, and ``worst`` if one is.

    Args:
        predicted: bool (S, H, W).
        true: bool (S, H, W).
        spacing: mm along S, H, W.
        worst: what stands for the distance to nothing, such as the ``volume_diagonal``.

    Raises:
        InputError: masks of two shapes, or a spacing that is not three positive numbers.
    """
    _check_pair(predicted, true)
    spacing = tuple(float(size) for size in spacing)
    if len(spacing) != 3 or not all(0 < size < math.inf for size in spacing):
        raise InputError(f"a volume's spacing must be three positive numbers, got {spacing}")
    some_predicted, some_true = bool(predicted.any()), bool(true.any())
    if not some_predicted and not some_true:
        return 0.0, 0.0
    if not (some_predicted and some_true):
        return float(worst), float(worst)

    # Here, as MONAI takes seconds to import.
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    predicted, true = crop_to_foreground(predicted, true)
    # Copied, so that a mask that only reads (a file's) and one with a stride below 0 will do.
    pair = [torch.from_numpy(mask.copy())[None, None] for mask in (predicted, true)]
    with warnings.catch_warnings():
        # MONAI warns of an argument that it sets itself.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hausdorff = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=spacing
        )
        average = compute_average_surface_distance(
            *pair, include_background=True, symmetric=True, spacing=spacing
        )
    return float(hausdorff), float(average)


def crop_to_foreground(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return views of both masks within the box of their union, with a margin of one voxel.

    The margin ends at the array's end. All that is left out is background in both, so components
    and surfaces stay what they are. Two empty masks come back whole.
    """
    _check_pair(predicted, true)
    boxes = ndimage.find_objects((predicted | true).view(np.uint8))
    if not boxes:
        return predicted, true
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in boxes[0])
    return predicted[box], true[box]


def volume_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the length in mm of the diagonal of a volume, no distance within which is longer."""
    return math.hypot(*(n * size for n, size in zip(shape, spacing, strict=True)))


def _check_pair(predicted: np.ndarray, true: np.ndarray) -> None:
    for mask in (predicted, true):
        if mask.dtype != bool or mask.ndim != 3:
            raise InputError(
                f"a volume's mask must be bool (S, H, W), got {mask.dtype} {mask.shape}"
            )
    if predicted.shape != true.shape:
        raise InputError(
            f"the predicted mask is {predicted.shape} (S, H, W), the true one {true.shape}"
        )
