"""Regions, which are sets of label values: from their probabilities to one label a voxel.

Shape shorthand in this module: K regions, S, H, W (voxels; S counts slices).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inspire_d2.errors import InputError

__all__ = ["IGNORED", "paint", "region_labels"]

IGNORED = 255  # the label of voxels that do not count


def region_labels(regions: Mapping[str, Sequence[int]], labels: Sequence[int]) -> dict[str, int]:
    """Return each region's own label: the smallest of the set's that no later region has.

    ``regions`` are label values by name, the outer first: {"WT": [1, 2, 4], "TC": [1, 4], "ET":
    [4]} own 2, 1 and 4.

    Raises:
        InputError: a region has no label of its own in the set, or overlaps an earlier one without
            lying within it, so that it cannot be written.
    """
    own = {}
    names = list(regions)
    for number, name in enumerate(names):
        for earlier in names[:number]:
            shared = set(regions[name]) & set(regions[earlier]) & set(labels)
            if shared and not set(regions[name]) & set(labels) <= set(regions[earlier]):
                raise InputError(
                    f"the region {name} ({list(regions[name])}) overlaps {earlier} "
                    f"({list(regions[earlier])}), but does not lie within it: one map of labels"
                    " cannot hold both. A later region lies within an earlier one, or apart from it"
                )
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
    *,
    exclusive: bool = False,
) -> np.ndarray:
    """Make a label map, uint8 (S, H, W), of the K regions' probabilities (K, S, H, W).

    Where a region reaches the threshold its own label is painted, later regions over earlier ones;
    so a voxel of an inner region is one of the outer, whatever the outer's probability. With
    ``exclusive``, for regions that are classes, the most probable of them and the background is
    painted, and ``threshold`` must be 0.5. ``probabilities`` is an array or a tensor on the CPU.

    Raises:
        InputError: a region has no label of its own, there are not as many maps as regions, or
            there is a threshold for classes.
    """
    own = region_labels(regions, labels)
    if len(probabilities) != len(own):
        raise InputError(f"there are {len(probabilities)} maps for {len(own)} regions")
    if exclusive:
        if threshold != 0.5:
            raise InputError(
                f"the regions are classes, of which the most probable is taken: a threshold of "
                f"{threshold:g} means nothing there"
            )
        classes = np.asarray(probabilities, np.float32)
        values = np.array(list(own.values()), np.uint8)
        background = 1 - classes.sum(axis=0)
        return np.where(classes.max(axis=0) > background, values[classes.argmax(axis=0)], 0).astype(
            np.uint8
        )
    label_map = np.zeros(tuple(probabilities.shape[1:]), np.uint8)
    for label, probability in zip(own.values(), probabilities, strict=True):
        label_map[np.asarray(probability >= threshold)] = label
    return label_map
