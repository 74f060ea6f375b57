"""PraNet's protocol: the scores of a prediction map over 256 thresholds, without one chosen.

The field's tables come from the MATLAB evaluation of PraNet (Fan et al., MICCAI 2020); this is
that evaluation through ``pysodmetrics``, which must be installed to import this module. Where the
library departs from MATLAB the difference is made up for here; docs/polyp_protocol.md lists all.

Shape shorthand in this module: T = 256 thresholds from 1 down to 0, H, W (pixels of the image).
"""

import numpy as np
from py_sod_metrics import DICEHandler, Emeasure, FmeasureV2, IOUHandler, Smeasure, WeightedFmeasure

__all__ = ["score_map", "to_8_bits"]


def to_8_bits(probability: np.ndarray) -> np.ndarray:
    """Stretch a map to its own minimum and maximum, then round it to 0..255: uint8 (H, W).

    A constant map has nothing to stretch and keeps its value, as in MATLAB's ``mapminmax``. What is
    not a number counts as 0, no polyp.
    """
    values = np.nan_to_num(probability.astype(np.float64), nan=0.0).clip(0, 1)
    low, high = values.min(), values.max()
    if high > low:
        values = (values - low) / (high - low)
    return np.rint(255 * values).astype(np.uint8)


def score_map(probability: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Score one image's map.

    Args:
        probability: (H, W), of polyp, 0..1.
        truth: bool (H, W).

    Returns:
        Dice, IoU, E: a value for each threshold, float32 (T,); wFm, Sm, MAE: a value each.
    """
    values = to_8_bits(probability) / 255
    overlap = FmeasureV2({"Dice": DICEHandler(True, False), "IoU": IOUHandler(True, False)})
    overlap.step(values, truth, normalize=False)
    curves = {name: result["dynamic"] for name, result in overlap.get_results().items()}
    enhanced, weighted, structure = _EnhancedMeasure(), WeightedFmeasure(), _StructureMeasure()
    for measure in (enhanced, weighted, structure):
        measure.step(values, truth, normalize=False)
    curves["E"] = enhanced.get_results()["em"]["curve"]
    return {
        **{name: curve.astype(np.float32) for name, curve in curves.items()},
        "wFm": weighted.get_results()["wfm"],
        "Sm": structure.get_results()["sm"],
        "MAE": np.abs(values - truth).mean(),
    }


class _EnhancedMeasure(Emeasure):
    """E-measure of the pixels *above* each threshold; the library takes those equal to it too."""

    def cal_changeable_em(self, pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
        """Return the curve: above 255 lies nothing, above t what is t + 1 or more."""
        nothing = self.cal_em_with_threshold(pred, gt, threshold=np.inf)
        return np.append(nothing, super().cal_changeable_em(pred, gt)[:-1])


class _StructureMeasure(Smeasure):
    """S-measure whose centroid is rounded as in MATLAB, halves up, and may lie on the edge."""

    def region(self, pred: np.ndarray, gt: np.ndarray) -> float:
        """Return the mean SSIM of the four parts that meet at the centroid, weighted by area."""
        # The pixel that holds the centroid belongs to the upper and to the left parts.
        y, x = (int(np.floor(places.mean() + 0.5)) + 1 for places in np.nonzero(gt))
        score = 0.0
        for rows in (slice(0, y), slice(y, None)):
            for columns in (slice(0, x), slice(x, None)):
                part = gt[rows, columns]
                if part.size:  # else MATLAB and the library give NaN for the whole image
                    score += self.ssim(pred[rows, columns], part) * part.size / gt.size
        return score
