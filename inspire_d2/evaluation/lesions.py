"""Lesion-wise precision, recall and F1 by connected components."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .dice import crop_to_foreground

__all__ = ["LesionCounts", "count_lesions"]

NEIGHBOURS = np.ones((3, 3, 3), bool)  # 26: lesions that meet in a corner are one


class LesionCounts(NamedTuple):
    """The lesions of one volume, as the stroke challenges (ISLES 2022, ATLAS v2) count them.

    A lesion is a 26-connected component of a mask. A true lesion is found when at least one of its
    voxels is predicted; a predicted one is right when at least one of its voxels lies in a true
    lesion. One prediction may find several lesions, and several may share one.

    Figures of a volume in which one mask is empty are 0, and 1 where both are.
    """

    true: int
    found: int
    predicted: int
    right: int

    @property
    def precision(self) -> float:
        """Right predicted lesions / predicted lesions."""
        return self._of_some(self.right, self.predicted)

    @property
    def recall(self) -> float:
        """Found lesions / true lesions."""
        return self._of_some(self.found, self.true)

    @property
    def f1(self) -> float:
        """``2 TP / (2 TP + FP + FN)``, where TP are the found, FN the other true lesions.

        FP are the predicted lesions that are not right. As in the challenges, TP counts true
        lesions alone: this is the harmonic mean of precision and recall unless a lesion is found in
        several parts, or several lesions are found by one.
        """
        false = self.predicted - self.right
        return self._of_some(2 * self.found, self.found + self.true + false)

    def _of_some(self, part: int, whole: int) -> float:
        if not self.true and not self.predicted:
            return 1.0
        return part / whole if whole else 0.0


def count_lesions(predicted: np.ndarray, true: np.ndarray) -> LesionCounts:
    """Count the lesions of two bool masks (S, H, W) and those of each that meet the other.

    Raises:
        InputError: masks that are not bool (S, H, W), or of two shapes.
    """
    predicted, true = crop_to_foreground(predicted, true)
    true_labels, true_count = ndimage.label(true, NEIGHBOURS)
    predicted_labels, predicted_count = ndimage.label(predicted, NEIGHBOURS)
    both = predicted & true
    return LesionCounts(
        true=true_count,
        # NumPy 2.4 and later count in its own integers, which json does not write.
        found=int(np.count_nonzero(np.bincount(true_labels[both]))),
        predicted=predicted_count,
        right=int(np.count_nonzero(np.bincount(predicted_labels[both]))),
    )
