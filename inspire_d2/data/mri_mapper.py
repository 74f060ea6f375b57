"""From a prepared MRI volume to a 2D patch for training, or to the whole volume for testing.

Shape shorthand: S slices, C channels, H, W of a stored volume; h, w of a patch; n neighbour slices
on either side, C' = C (2 n + 1).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T

from inspire_d2.data.regions import IGNORED
from inspire_d2.errors import InputError, as_size

__all__ = ["MriMapper", "with_neighbours"]


class MriMapper:
    """Make a training patch, or a whole volume, of an item of :func:`mri_dataset`.

    In training: {"image": float32 (C', h, w), "sem_seg": int64 (h, w), the label values as they are
    stored}; of a slice with one of the label values for the given share of the draws, of a random
    one for the rest. In testing: {"image": float16 (S, C', H, W), "label": uint8 (S, H, W), where
    the case has one}. The item's other keys are handed on.

    Random numbers come from ``numpy.random`` alone.

    Args:
        is_train: for training.
        patch_size: (h, w); None for the whole slice. A smaller slice is padded with 0.
        foreground_share: how often a label value present in the volume is chosen (each as often), a
            slice by the number of its voxels, and a patch that holds one of them.
        neighbours: n, for 2.5D: the channels of the slices -n .. n, the ends repeated.
        augmentations: in training, in this order; Detectron2's, or callables that take and return
            image float32 (C', h, w) and label uint8 (h, w).
    """

    def __init__(
        self,
        is_train: bool,
        patch_size: Sequence[int] | None = None,
        foreground_share: float = 0.5,
        neighbours: int = 0,
        augmentations: Sequence[Any] = (),
    ) -> None:
        if not 0 <= foreground_share <= 1:
            raise InputError(f"foreground_share={foreground_share} does not lie in 0..1")
        if type(neighbours) is not int or neighbours < 0:
            raise InputError(f"neighbours={neighbours} is not a whole number, 0 or more")
        self.is_train = is_train
        self.patch_size = None if patch_size is None else as_size("patch_size", patch_size)
        self.foreground_share = foreground_share
        self.neighbours = neighbours
        self.augmentations = tuple(augmentations)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Map one volume of the data set to what a model takes.

        Raises:
            InputError: an array cannot be read, or a case to train on has no label.
        """
        mapped = {key: value for key, value in item.items() if key != "label"}
        image = _open(item["image"])
        if not self.is_train:
            mapped["image"] = torch.from_numpy(with_neighbours(image, self.neighbours))
            if item["label"] is not None:
                mapped["label"] = torch.from_numpy(np.array(_open(item["label"])))
            return mapped
        if item["label"] is None:
            raise InputError(f"the case {item['case']} has no label, it cannot be trained on")
        patch, label = self._draw(image, _open(item["label"]), item)
        for augmentation in self.augmentations:
            patch, label = _apply(augmentation, patch, label)
        mapped["image"] = torch.from_numpy(np.ascontiguousarray(patch, dtype=np.float32))
        mapped["sem_seg"] = torch.from_numpy(label.astype(np.int64))
        return mapped

    def _draw(
        self, image: np.ndarray, label: np.ndarray, item: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a slice and a place in it; return (C', h, w) float32 and (h, w) uint8."""
        counts = {int(v): np.asarray(c) for v, c in item["voxels"].items() if any(c)}
        counts.pop(IGNORED, None)
        within = None
        if np.random.random() < self.foreground_share and counts:
            value = list(counts)[np.random.randint(len(counts))]
            number = _proportional(counts[value])
            places = np.argwhere(label[number] == value)
            if not len(places):
                raise InputError(
                    f"slice {number} of {item['label']} has no voxel of {value}, though its index"
                    " says so: run datasets/prepare_mri.py again"
                )
            within = places[np.random.randint(len(places))]
        else:
            number = np.random.randint(len(label))
        size = self.patch_size or label.shape[1:]
        corner = [
            _place(size[axis], label.shape[axis + 1], None if within is None else within[axis])
            for axis in (0, 1)
        ]
        slices = _offsets(number, len(image), self.neighbours)
        patch = np.concatenate([_cut(image[index], corner, size) for index in slices])
        return patch.astype(np.float32), _cut(label[number], corner, size)


def with_neighbours(image: np.ndarray, neighbours: int) -> np.ndarray:
    """Return (S, C', H, W), a copy in memory: each slice with the channels of those around it."""
    if not neighbours:
        return np.array(image)
    S, C, H, W = image.shape
    result = np.empty((S, C * (2 * neighbours + 1), H, W), image.dtype)
    for number in range(S):
        for place, index in enumerate(_offsets(number, S, neighbours)):
            result[number, place * C : (place + 1) * C] = image[index]
    return result


def _offsets(number: int, count: int, neighbours: int) -> list[int]:
    """Return the slices -n .. n around one, the first and the last repeated beyond the ends."""
    around = range(number - neighbours, number + neighbours + 1)
    return [min(max(index, 0), count - 1) for index in around]


def _proportional(counts: np.ndarray) -> int:
    """Draw a slice with the probability that one of its voxels would be drawn of all."""
    totals = np.cumsum(counts)
    return int(np.searchsorted(totals, np.random.randint(totals[-1]), side="right"))


def _place(size: int, whole: int, within: int | None) -> int:
    """Draw where a patch begins along an axis, below 0 where the slice is the smaller.

    It lies in the slice, or the slice in it; it holds the voxel ``within``, if one is given.
    """
    low, high = min(0, whole - size), max(0, whole - size)
    if within is not None:
        low, high = max(low, within - size + 1), min(high, within)
    return int(np.random.randint(low, high + 1))


def _cut(array: np.ndarray, corner: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Copy the patch of the last two axes that begins at ``corner``; 0 outside the array."""
    result = np.zeros((*array.shape[:-2], *size), array.dtype)
    source, target = [], []
    for start, length, whole in zip(corner, size, array.shape[-2:], strict=True):
        first, last = max(start, 0), min(start + length, whole)
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    result[(..., *target)] = array[(..., *source)]
    return result


def _apply(
    augmentation: Any, image: np.ndarray, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(augmentation, T.Augmentation | T.Transform):
        return augmentation(image, label)
    changed = T.AugInput(image.transpose(1, 2, 0), sem_seg=label)
    T.AugmentationList([augmentation])(changed)
    return changed.image.transpose(2, 0, 1), changed.sem_seg


def _open(array: str | np.ndarray) -> np.ndarray:
    """Return an array that a path names, read when it is used, or the array that is given."""
    if not isinstance(array, str):
        return array
    try:
        return np.load(array, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(
            f"the array {array} cannot be read ({error}): run datasets/prepare_mri.py again"
        ) from error
