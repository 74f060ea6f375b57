"""Images with truth and predictions drawn over them, small enough to stand within a page.

Shape shorthand in this module: H, W (pixels of the picture).
"""

import base64
from collections.abc import Sequence

import cv2
import numpy as np
import pycocotools.mask as mask_util

from inspire_d2.errors import InputError
from inspire_d2.findings import BLUE
from inspire_d2.predictor import read_image
from inspire_d2.report.truth import Item, Thing
from inspire_d2.visualization.grid import TRUTH_COLOUR

__all__ = ["overlay", "photo", "to_data_url"]

SIDE = 320  # the longest, in pixels
QUALITY = 82
TRUTH = TRUTH_COLOUR[::-1]  # BGR
CROWDED = 8  # more things than that have thin outlines
SHADOW = (20, 20, 20)
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.38)


def photo(item: Item) -> np.ndarray | None:
    """Read an image at the page's size, uint8 (H, W, 3) in BGR; None where it cannot be read."""
    if item.path is None:
        return None
    try:
        pixels = read_image(item.path, "BGR")
    except InputError:
        return None
    if pixels.shape[:2] != (item.height, item.width):
        return None
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def overlay(
    pixels: np.ndarray,
    true: Sequence[Thing],
    predicted: Sequence[Thing],
    item: Item,
    labels: Sequence[str] = (),
) -> np.ndarray:
    """Return a copy with the truth's outlines in green and predictions filled in blue.

    Args:
        pixels: what :func:`photo` returned.
        true, predicted: of the item, in pixels of the image's own size.
        labels: of the predictions, none or one each.
    """
    drawn = pixels.copy()
    wide = 2 if len(true) + len(predicted) <= CROWDED else 1
    shapes = [_outline(thing, item, drawn) for thing in predicted]
    filled = cv2.drawContours(drawn.copy(), [p for s in shapes for p in s], -1, BLUE, -1)
    drawn = cv2.addWeighted(drawn, 0.72, filled, 0.28, 0)
    for shape in shapes:
        cv2.drawContours(drawn, shape, -1, BLUE, wide, cv2.LINE_AA)
    for thing in true:
        outline = _outline(thing, item, drawn)
        cv2.drawContours(drawn, outline, -1, SHADOW, wide + 1, cv2.LINE_AA)
        cv2.drawContours(drawn, outline, -1, TRUTH, 1 if thing.crowd else wide, cv2.LINE_AA)
    scale = drawn.shape[1] / item.width
    for thing, label in zip(predicted, labels, strict=False):
        at = (round(thing.box[0] * scale) + 2, max(11, round(thing.box[1] * scale) - 3))
        for colour, width in ((SHADOW, 3), ((255, 255, 255), 1)):
            cv2.putText(drawn, label, at, *FONT, colour, width, cv2.LINE_AA)
    return drawn


def to_data_url(pixels: np.ndarray) -> str:
    """Return an image as the address of a JPEG that holds all of it."""
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise InputError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} cannot be compressed.")
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _outline(thing: Thing, item: Item, drawn: np.ndarray) -> list[np.ndarray]:
    """Return the contours of a mask, or of a box, in pixels of the picture."""
    scale = drawn.shape[1] / item.width
    if thing.mask is not None:
        # Scaled as contours: a small mask might not survive its own scaling.
        mask = mask_util.decode(thing.mask)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return [np.rint(contour * scale).astype(np.int32) for contour in contours]
    x, y, w, h = (round(value * scale) for value in thing.box)
    return [np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]).reshape(-1, 1, 2)]
