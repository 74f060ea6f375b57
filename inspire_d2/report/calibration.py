"""How far scores can be taken at their word: reliability by bins, expected calibration error."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["BINS", "Calibration"]

BINS = 10


@dataclass
class Calibration:
    """Scores in 0..1 and whether each was right, in equal bins, of which the last holds 1 too.

    ``of`` names what is scored ("detections", "pixels").
    """

    of: str
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(BINS))  # sums by bin
    rights: np.ndarray = field(default_factory=lambda: np.zeros(BINS))

    def add(self, scores: np.ndarray, right: np.ndarray) -> None:
        """Count scores (N,) and whether they were right, bool (N,)."""
        scores = np.asarray(scores, np.float64).ravel()
        right = np.asarray(right).ravel()
        bins = np.minimum((scores * BINS).astype(int), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)
        self.scores += np.bincount(bins, weights=scores, minlength=BINS)
        self.rights += np.bincount(bins, weights=right, minlength=BINS)

    @property
    def total(self) -> int:
        """How many scores were counted."""
        return int(self.counts.sum())

    @property
    def mean_scores(self) -> np.ndarray:
        """The mean score of each bin, NaN of an empty one."""
        return np.divide(self.scores, self.counts, np.full(BINS, np.nan), where=self.counts > 0)

    @property
    def shares_right(self) -> np.ndarray:
        """The share that was right of each bin, NaN of an empty one."""
        return np.divide(self.rights, self.counts, np.full(BINS, np.nan), where=self.counts > 0)

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over scores of their bin's |score - share|."""
        gaps = np.abs(self.scores - self.rights)  # of sums, so that each bin weighs as its count
        return float(gaps.sum() / self.counts.sum()) if self.total else float("nan")
