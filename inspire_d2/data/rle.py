"""The run lengths of COCO's masks: whether they make up an image, which pycocotools does not ask.

Its decoder leaves what too few runs leave over as it finds it in memory.
"""

import numpy as np

__all__ = ["runs_add_up"]

_MOST_DIGITS = 10  # of 5 bits each, for one run: no image has as many pixels


def runs_add_up(counts: str | list[int], pixels: int) -> bool:
    """Tell whether the runs of an RLE, compressed (str) or not, cover ``pixels`` exactly."""
    if isinstance(counts, str):
        runs = _decompressed(counts)
        return runs is not None and bool((runs >= 0).all()) and int(runs.sum()) == pixels
    return all(type(run) is int and run >= 0 for run in counts) and sum(counts) == pixels


def _decompressed(counts: str) -> np.ndarray | None:
    """Return the runs (int64) of compressed counts in ASCII, None where the last is cut off.

    A character holds 5 bits, the lowest first, and a sixth that is set where more follow; the last
    bit is the sign. From the fourth run on, a run is the difference to the one before last.
    """
    digits = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 32 == 0)
    if not ends.size or ends[-1] != digits.size - 1:
        return None
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > _MOST_DIGITS:
        return None
    starts = ends - lengths + 1
    shifts = 5 * (np.arange(digits.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((digits & 31) << shifts, starts)
    runs -= np.where(digits[ends] & 16, 1, 0) << (5 * lengths)
    for chain in (runs[1::2], runs[2::2]):
        np.cumsum(chain, out=chain)
    return runs
