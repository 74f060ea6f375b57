"""Mask files: their levels, whatever they are stored as, and why one is no mask of polyps.

Nothing here may start threads of its own (OpenCV would): it runs in forked processes.

Shape shorthand in this module: H, W (pixels of one mask).
"""

import numpy as np
from PIL import Image
from scipy import ndimage

__all__ = ["THRESHOLD", "is_in_alpha", "mask_levels", "why_not_a_mask"]

THRESHOLD = 127  # a pixel above it is polyp
NEAR_BLACK, NEAR_WHITE = 7, 248  # JPEG noise stays below and above
MAX_GREY = 0.05  # share of mid-grey pixels, away from the outline, that a mask may hold
MAX_DIRT = 0.001  # share of dark grey pixels that a JPEG without any white may hold
OUTLINE = 3  # pixels on each side of an outline that smoothing or JPEG turn grey
# Noise of JPEG (quality 30 and more) has no patch of NOISE_AREA pixels above NOISE that touches no
# white: in PolypGen's masks, also three times as large, at most 10. Pure blue has the level 29.
NOISE, NOISE_AREA = 16, 30
# A lossless mask of so few levels has no noise, but may have indices: 0, 1, and 255 for void.
FEW_LEVELS = 8
FLAT = 4  # range of the levels around a pixel that is no smoothed edge


def mask_levels(mask: Image.Image) -> np.ndarray:
    """Return the mask's grey levels (H, W) in uint8, whatever it is stored as."""
    if mask.mode == "P":
        indices = np.asarray(mask)
        levels = np.asarray(mask.convert("RGB").convert("L"))
        used = np.unique(indices)
        if len(used) == 2 and used[0] == 0 and levels[indices == 0][0] <= THRESHOLD:
            return np.where(indices > 0, 255, 0).astype(np.uint8)  # background and one colour
        if used[0] == 0 and levels[indices == 0][0] == 0:
            levels = np.where(indices > 0, np.maximum(levels, 1), 0).astype(np.uint8)
        return levels  # black that is not the background's is told apart from it
    if mask.mode.startswith("I"):  # 16 bits and more
        wide = np.asarray(mask).astype(np.int64)
        return (wide // 257 if wide.max() > 255 else wide).clip(0, 255).astype(np.uint8)
    return np.asarray(mask.convert("L"))


def is_in_alpha(mask: Image.Image, levels: np.ndarray) -> bool:
    """Whether a mask of levels (H, W) has one level, and is transparent in some pixels alone."""
    if mask.mode not in ("LA", "RGBA") or np.ptp(levels) > 0:
        return False
    low, high = mask.getchannel("A").getextrema()
    return low < high


def why_not_a_mask(levels: np.ndarray, min_area: int, lossy: bool) -> str | None:
    """Return what speaks against a mask of levels (H, W), None if nothing does.

    A mask is no mask when it is neither black nor has a white pixel, holds too much grey, or a
    polyp of ``min_area`` pixels that is too dark to be taken for one.

    Mid-grey are the levels 8..247. Up to 5 % of them are taken for smoothed edges anywhere; more
    only within 3 pixels of the outline, and never half of the picture.
    """
    highest = int(levels.max())
    dirt = (levels > NEAR_BLACK).mean()
    if 0 < highest <= THRESHOLD and (not lossy or dirt > MAX_DIRT):
        return f"its highest level is {highest}, save it as 0 and 255"
    grey = (levels > NEAR_BLACK) & (levels < NEAR_WHITE)
    if grey.mean() > MAX_GREY:
        white, width = levels > THRESHOLD, 2 * OUTLINE + 1
        outline = ndimage.maximum_filter(white, width) != ndimage.minimum_filter(white, width)
        if grey.mean() > 0.5 or (grey & ~outline).mean() > MAX_GREY:
            return f"{100 * grey.mean():.0f} % of its pixels are grey"
    indices = not lossy and np.count_nonzero(np.bincount(levels.ravel())) <= FEW_LEVELS
    patch = _dark_patch(levels, 0 if indices else NOISE, max(min_area, NOISE_AREA))
    if patch is not None:
        level = int(np.median(levels[patch]))
        return f"{patch.sum()} px of level {level} are not white, save every polyp as 255"
    return None


def _dark_patch(levels: np.ndarray, noise: int, least: int) -> np.ndarray | None:
    """Return a mask (H, W) of something dark of ``least`` pixels or more, None if there is none.

    It is brighter than ``noise``, and touches no white, or is too flat to be the edge of some.
    """
    white = levels > THRESHOLD
    dark = (levels > noise) & ~white
    if dark.sum() < least:
        return None
    corners = np.ones((3, 3))
    labels, count = ndimage.label(dark | white, corners)
    brightest = ndimage.maximum(levels, labels, np.arange(count + 1))
    alone = dark & (brightest <= THRESHOLD)[labels]
    even = ndimage.maximum_filter(levels, 3) - ndimage.minimum_filter(levels, 3) <= FLAT
    flat = dark & even & ~ndimage.maximum_filter(white, 2 * OUTLINE + 1)
    for pixels in (alone, flat):
        labels, count = ndimage.label(pixels, corners)
        areas = np.bincount(labels.ravel(), minlength=2)[1:]
        if areas.max() >= least:
            return labels == 1 + areas.argmax()
    return None
