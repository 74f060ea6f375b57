"""A sheet of a volume's slices with what was segmented in them.

Shape shorthand in this module: S slices, H, W (voxels of a slice).
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from .grid import spread

__all__ = ["radiological", "slice_sheet"]

# BGR of the labels, in their order, for those who tell few colours apart too (Okabe and Ito)
_COLOURS = ((0, 159, 230), (233, 180, 86), (167, 121, 204), (66, 228, 240), (115, 158, 0))
_GAP, _LEGEND = 4, 26  # pixels


def radiological(affine: np.ndarray, axis: int) -> tuple[bool, bool, bool]:
    """Return how slices along ``axis`` are turned to be looked at: (transpose, flip H, flip W).

    Superior, else anterior, is up; the patient's right, else anterior, is on the left.
    ``affine`` (4, 4) leads from voxels to millimetres in NIfTI's RAS.
    """
    import nibabel as nib  # of the extra [medical]

    codes = list(nib.aff2axcodes(affine))
    del codes[axis]
    transpose = codes[1] in "SI" or codes[0] in "LR"
    down, right = reversed(codes) if transpose else codes
    return transpose, down not in "IP", right not in "LP"


def slice_sheet(
    image: np.ndarray,
    label_map: np.ndarray,
    spacing: tuple[float, float],
    labels: Mapping[int, str],
    *,
    turn: tuple[bool, bool, bool] = (False, False, False),
    first: int = 0,
    num_slices: int = 12,
    columns: int = 4,
    tile_width: int = 240,
) -> np.ndarray:
    """Draw slices in grey, with the labels' outlines: uint8 (height, width, 3) in BGR.

    Args:
        image: one channel (S, H, W), of any range.
        label_map: whole numbers (S, H, W); 0 is the background.
        spacing: of H and W in millimetres; slices keep their true proportions.
        labels: each value's name, in the order in which they are painted.
        turn: as :func:`radiological` returns it.
        first: the number of the first slice in the volume that these are cut out of.
        num_slices: how many at most, spread evenly over those with a label, or over all where
            there is no label.
        columns: tiles side by side.
        tile_width: of one slice, in pixels.
    """
    found = np.flatnonzero(label_map.any(axis=(1, 2)))
    found = found if len(found) else np.arange(len(label_map))
    shown = [int(found[k]) for k in spread(len(found), num_slices)]
    grey, values = (_turned(volume[shown], turn) for volume in (image, label_map))
    low, high = np.percentile(grey, (1, 99.5))
    grey = np.clip((grey.astype(np.float32) - low) / max(high - low, 1e-6) * 255, 0, 255)
    mm_high, mm_wide = spacing[::-1] if turn[0] else spacing
    height = max(1, round(tile_width * values.shape[1] * mm_high / (values.shape[2] * mm_wide)))
    tiles = []
    for number, one, value in zip(shown, grey.astype(np.uint8), values, strict=True):
        tile = _drawn(one, value, tuple(labels), (tile_width, height))
        _write(tile, f"slice {first + number}", (6, 16), (255, 255, 255))
        tiles.append(cv2.copyMakeBorder(tile, 0, _GAP, 0, _GAP, cv2.BORDER_CONSTANT))
    columns = min(columns, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    legend, left = np.zeros((_LEGEND, rows[0].shape[1], 3), np.uint8), 6
    for name, colour in zip(labels.values(), _COLOURS * len(labels), strict=False):
        left = _write(legend, name, (left, 17), colour) + 16
    return np.vstack([*rows, legend])


def _turned(slices: np.ndarray, turn: tuple[bool, bool, bool]) -> np.ndarray:
    transpose, flip_h, flip_w = turn
    slices = slices.transpose(0, 2, 1) if transpose else slices
    return slices[:, :: -1 if flip_h else 1, :: -1 if flip_w else 1]


def _drawn(
    grey: np.ndarray, values: np.ndarray, labels: Sequence[int], size: tuple[int, int]
) -> np.ndarray:
    """Return a slice at ``size`` = (width, height), BGR, with its labels."""
    drawn = cv2.cvtColor(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    for value, colour in zip(labels, _COLOURS * len(labels), strict=False):
        mask = (values == value).astype(np.uint8)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        inside = mask.astype(bool)
        drawn[inside] = (0.7 * drawn[inside] + 0.3 * np.array(colour)).astype(np.uint8)
        outline, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outline, -1, colour, 1)
    return drawn


def _write(on: np.ndarray, text: str, at: tuple[int, int], colour: Sequence[int]) -> int:
    """Write a line of text; return where it ends."""
    cv2.putText(on, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return at[0] + cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]
