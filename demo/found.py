"""One image through the model, and what can be shown of it without running the model again."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from detectron2.structures import Instances
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from inspire_d2.errors import InputError
from inspire_d2.findings import as_instances, check_regions, draw, masks_of
from inspire_d2.modeling import InspireFPN
from inspire_d2.predictor import Predictor, read_image
from inspire_d2.visualization.pyramid import Record, record

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Found", "Shown", "find", "show"]

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 10_000_000  # more than a frame of 4K video; a detector's masks are of this size each
# Not all that Pillow opens: for some kinds it starts another program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")


@dataclass(frozen=True)
class Found:
    """A model's prediction of one image.

    ``pixels`` is uint8 (H, W, 3) in BGR, ``result`` what :func:`kept` returned, ``names`` those of
    the classes; ``made`` what its pyramid made, or None of another than InspireFPN, and ``size``
    the height and width of the image as the pyramid saw it.
    """

    name: str
    pixels: np.ndarray
    result: Instances | np.ndarray
    names: list[str]
    made: Record | None
    size: tuple[int, int]


@dataclass(frozen=True)
class Shown:
    """What is of a threshold or more: overlay (H, W, 3) in RGB, mask (H, W) bool, table rows.

    A row is a polyp: its class, its box (left, top, width, height) in pixels, the number of its
    pixels, its score. ``best`` is the highest score, whatever the threshold.
    """

    overlay: np.ndarray
    mask: np.ndarray
    rows: list[tuple[str, tuple[int, int, int, int], int, float]]
    best: float


def find(model: Predictor, path: Path) -> Found:
    """Run a model, which takes BGR, on an image file; not on two at a time.

    Raises:
        InputError: it is no image, is broken, or has too many pixels; the file goes by its name.
    """
    check_size(path)
    try:
        pixels = read_image(path, "BGR")
    except InputError as error:
        raise InputError(str(error).replace(f"image {path}", path.name)) from error
    try:
        item = model.prepare(pixels)
    except InputError as error:
        raise InputError(f"{path.name}: {error}.") from error
    names = [one["name"] for one in model.categories]
    size = tuple(item["image"].shape[1:])
    pyramid = next((m for m in model.model.modules() if isinstance(m, InspireFPN)), None)
    if pyramid is None:
        return Found(path.name, pixels, kept(model.predict([item])[0]), names, None, size)
    with record(pyramid) as made:
        result = model.predict([item])[0]
    return Found(path.name, pixels, kept(result), names, dict(made), size)


def kept(result: Instances | np.ndarray) -> Instances | np.ndarray:
    """Return a result with a detector's masks as COCO's run lengths, in ``runs``.

    A page keeps it as long as it is open, and a hundred masks of the image's size are up to a GB.
    """
    if not isinstance(result, Instances):
        return result
    compact = Instances(result.image_size, **result.get_fields())
    if compact.has("pred_masks"):
        masks = compact.pred_masks.numpy()
        compact.remove("pred_masks")
        runs = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
        compact.runs = np.array(runs, dtype=object)  # which Instances can choose from
    return compact


def check_size(path: Path) -> None:
    """Raise InputError unless a file begins as an image of few enough pixels."""
    limit = f"{MAX_PIXELS // 10**6} million pixels are the limit: make it smaller"
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise InputError(f"{path.name} has far too many pixels; {limit}.") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise InputError(f"{path.name} is not an image of a known kind ({kinds}).") from error
    except Exception as error:  # a broken file can make Pillow raise anything
        raise InputError(f"{path.name} cannot be read: the file is broken.") from error
    if width * height > MAX_PIXELS:
        raise InputError(f"{path.name} is {width}x{height}; {limit}.")


def show(found: Found, threshold: float) -> Shown:
    """Return what is shown of a prediction at a threshold, 0..1.

    Raises:
        InputError: the model segments several classes, of which none is known as the background,
            or there are too many regions.
    """
    check_regions(found.result, threshold)
    instances = as_instances(found.result, threshold)
    chosen = instances[instances.scores >= threshold]
    if chosen.has("runs"):
        masks = np.zeros((len(chosen), *chosen.image_size), bool)
        for mask, run in zip(masks, chosen.runs, strict=True):
            mask[:] = coco_mask.decode(run)
    else:
        masks = masks_of(chosen, threshold)
    scores = chosen.scores.tolist()
    rows = []
    for mask, box, label, score in zip(
        masks, chosen.pred_boxes.tensor.tolist(), chosen.pred_classes.tolist(), scores, strict=True
    ):
        left, top, right, bottom = (round(side) for side in box)
        place = (left, top, right - left, bottom - top)
        rows.append((found.names[label], place, int(mask.sum()), score))
    of_all = instances.scores.numpy() if instances is found.result else found.result
    return Shown(
        overlay=cv2.cvtColor(draw(found.pixels, masks, scores), cv2.COLOR_BGR2RGB),
        mask=masks.any(axis=0),
        rows=rows,
        best=float(of_all.max(initial=0)),
    )


def png(pixels: np.ndarray) -> bytes:
    """Return uint8 (H, W), or (H, W, 3) in BGR, as a PNG file."""
    return cv2.imencode(".png", pixels)[1].tobytes()
