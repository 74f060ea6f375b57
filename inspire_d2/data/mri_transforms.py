"""Random changes of intensity for normalised MRI: (image, label) in, (image, label) out.

Shape shorthand: C, H, W of a patch; images are float32 (C, H, W), labels (H, W). Voxels that are
0 are background, as outside the brain or the patch's padding, and stay 0. The numbers are drawn
from numpy.random, which the training loader seeds. Mirroring and other changes of place are
Detectron2's: the mapper takes its augmentations, too.
"""

import numpy as np

from inspire_d2.errors import InputError

__all__ = ["RandomGamma", "RandomIntensity", "RandomNoise"]


class RandomIntensity:
    """Scale each channel by 1 -+ ``scale`` and shift it by up to ``shift`` standard deviations."""

    def __init__(self, scale: float = 0.1, shift: float = 0.1, probability: float = 1.0) -> None:
        if not (0 <= scale < 1 and shift >= 0):
            raise InputError(
                f"RandomIntensity: scale {scale} is not in [0, 1), or shift {shift} < 0"
            )
        self.scale, self.shift = scale, shift
        self.probability = _probability(self, probability)

    def __call__(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the changed image, and the label as it is."""
        if np.random.random() >= self.probability:
            return image, label
        size = (len(image), 1, 1)
        scale = 1 + np.random.uniform(-self.scale, self.scale, size).astype(np.float32)
        shift = np.random.uniform(-self.shift, self.shift, size).astype(np.float32)
        return np.where(image == 0, image, image * scale + shift), label


class RandomGamma:
    """Bend each channel's contrast: x^gamma on its range, gamma log-uniform from low to high.

    The channel keeps its lowest and its highest value.
    """

    def __init__(self, low: float = 0.7, high: float = 1.5, probability: float = 0.3) -> None:
        if not 0 < low <= high:
            raise InputError(f"RandomGamma: not 0 < low {low} <= high {high}")
        self.low, self.high = low, high
        self.probability = _probability(self, probability)

    def __call__(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the changed image, and the label as it is."""
        if np.random.random() >= self.probability:
            return image, label
        gammas = np.exp(np.random.uniform(np.log(self.low), np.log(self.high), len(image)))
        image = image.copy()
        for channel, gamma in zip(image, gammas.astype(np.float32), strict=True):
            mask = channel != 0
            if not mask.any():
                continue
            values = channel[mask]
            low, span = values.min(), np.ptp(values)
            if span > 0:
                channel[mask] = ((values - low) / span) ** gamma * span + low
        return image, label


class RandomNoise:
    """Add Gaussian noise, whose standard deviation is drawn from 0 to ``deviation``."""

    def __init__(self, deviation: float = 0.1, probability: float = 0.2) -> None:
        if deviation < 0:
            raise InputError(f"RandomNoise: deviation {deviation} < 0")
        self.deviation = deviation
        self.probability = _probability(self, probability)

    def __call__(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the changed image, and the label as it is."""
        if np.random.random() >= self.probability:
            return image, label
        deviation = np.random.uniform(0, self.deviation)
        noise = np.random.normal(0, deviation, image.shape).astype(np.float32)
        return np.where(image == 0, image, image + noise), label


def _probability(change: object, probability: float) -> float:
    if not 0 <= probability <= 1:
        name = type(change).__name__
        raise InputError(f"{name}: probability {probability} does not lie in 0..1")
    return probability
