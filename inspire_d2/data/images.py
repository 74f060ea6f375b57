"""Image files: what can be told before the pixels are read, why one cannot be read, writing."""

import os

import cv2
import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from inspire_d2.errors import InputError

__all__ = [
    "cannot_be_read",
    "check_image_header",
    "is_cut_to_8_bits",
    "misread",
    "unreadable",
    "upright_size",
    "write_image",
]

EXIF_ORIENTATION = 0x0112


def check_image_header(path: str, size: tuple[int, int] | None = None) -> None:
    """Raise InputError if Detectron2 would not read an image, or otherwise than it is meant.

    It turns images upright by their EXIF orientation (TIFFs twice), and cuts grey levels off at
    255, which makes an image of 16 bits white. Only the file's header is read.

    Args:
        size: the width and height that the annotations are for.
    """
    try:
        with PathManager.open(path, "rb") as file, Image.open(file) as image:
            problem, stored, upright = misread(image), image.size, upright_size(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(cannot_be_read(path, error)) from error
    if problem is not None:
        raise InputError(f"image {path} {problem}")
    if size is not None and upright != size:
        turned = f" ({stored[0]}x{stored[1]} before its EXIF orientation)"
        raise InputError(
            f"image {path} is {upright[0]}x{upright[1]}{turned if upright != stored else ''}, but"
            f" its annotations are for {size[0]}x{size[1]}: correct width and height in the json,"
            " with the boxes, or the image"
        )


def is_cut_to_8_bits(image: Image.Image) -> bool:
    """Whether an image has 16 bits per channel, of which Pillow decodes the upper 8 alone.

    It does so to colours, and to grey with transparency. After decoding it cannot be told.
    """
    return ";16" in str(image.tile) and not image.mode.startswith("I")


def misread(image: Image.Image) -> str | None:
    """Return why Detectron2 would read an image, of which nothing is decoded, wrongly."""
    if image.mode == "F" or image.mode.startswith("I"):
        return (
            f"has more than 8 bits per pixel (mode {image.mode}), which would be cut off at 255:"
            " save it with 8 bits, scaled as you need it"
        )
    if is_cut_to_8_bits(image):
        return (
            f"has 16 bits per channel (mode {image.mode}), of which the lower 8 would be lost:"
            " save it with 8 bits, scaled as you need it"
        )
    # Pillow turns it while decoding, but tells the orientation before.
    if image.format == "TIFF" and image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        return "is a TIFF with an orientation, which would turn it twice: save it upright"
    return None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height after the EXIF orientation, which Detectron2 applies too."""
    try:
        turned = image.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8)
    except Exception:  # whatever broken EXIF data raises: Detectron2 then turns nothing
        return image.size
    return image.size[::-1] if turned else image.size


def cannot_be_read(path: str, error: Exception) -> str:
    """Return the sentence for an image that raised ``error`` when it was read."""
    return (
        f"image {path} cannot be read ({unreadable(error)}): replace it, or take it out of the json"
    )


def unreadable(error: Exception) -> str:
    """Return in a few words why an image raised ``error`` when it was read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "cannot identify" in str(error):
        return "not an image"
    return str(error) or type(error).__name__


def write_image(path: str | os.PathLike, pixels: np.ndarray, *options: int) -> None:
    """Write uint8 (H, W) or (H, W, 3) in BGR as an image file, with the folders that it lacks.

    Args:
        options: of OpenCV, in pairs, such as IMWRITE_JPEG_QUALITY and its value.

    Raises:
        InputError: it cannot be written.
    """
    # Not imwrite, which a name that is no UTF-8 makes crash.
    kind = os.path.splitext(path)[1]
    done, content = cv2.imencode(kind, pixels, options)
    if not done:
        height, width = pixels.shape[:2]
        raise InputError(f"{path} cannot be written: a {kind} cannot hold {width}x{height} pixels.")
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
