"""From an image and its mask to COCO instances: the connected components of the mask.

Nothing here may start threads of its own (OpenCV would): it runs in forked processes.
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image, ImageOps
from scipy import ndimage

from inspire_d2.data.images import is_cut_to_8_bits, misread, unreadable, upright_size
from inspire_d2.data.masks import THRESHOLD, is_in_alpha, mask_levels, why_not_a_mask

__all__ = ["CONNECTIVITY", "Reading", "mask_to_instances", "read_pair"]

CONNECTIVITY = 8  # pixels that touch at a corner belong to one polyp


@dataclass(frozen=True)
class Reading:
    """What was read from an image and its mask.

    ``digest`` is the sha256 of both files' sha256, ``image_digest`` the image's own; ``instances``
    are COCO annotations without ids; ``specks`` counts the components that were too small;
    ``in_alpha`` says that the mask seems to be its transparency, which is not read; ``problem`` is
    (kind, detail) when the pair cannot be used.
    """

    width: int = 0
    height: int = 0
    digest: str = ""
    instances: list[dict[str, Any]] = field(default_factory=list)
    specks: int = 0
    in_alpha: bool = False
    problem: tuple[str, str] | None = None
    image_digest: bytes = b""


def read_pair(image_file: Path, mask_file: Path, min_area: int) -> Reading:
    """Read one pair of files completely; what is wrong is returned, not raised."""
    try:
        image, image_hash = _open(image_file)
        complaint = misread(image)
        image.load()
        width, height = upright_size(image)
    except Exception as error:  # whatever a broken file makes the decoder raise
        return Reading(problem=("unreadable images", _reason(image_file, error)))
    if complaint:
        return Reading(problem=("images that are read wrongly", f"{image_file} {complaint}"))
    try:
        mask, mask_hash = _open(mask_file)
        # 0 and 255 of 16 bits would both be black.
        complaint = "16 bits per channel: save it with 8" if is_cut_to_8_bits(mask) else None
        mask.load()
        lossy = mask.format in ("JPEG", "MPO", "WEBP")
        mask = ImageOps.exif_transpose(mask)
        levels = mask_levels(mask)
    except Exception as error:
        return Reading(problem=("unreadable masks", _reason(mask_file, error)))
    if mask.size != (width, height):
        sizes = f"{width}x{height} and {mask.size[0]}x{mask.size[1]}"
        return Reading(problem=("images and masks of different size", f"{image_file} ({sizes})"))
    complaint = complaint or why_not_a_mask(levels, min_area, lossy)
    if complaint:
        return Reading(problem=("masks that are not black and white", f"{mask_file} ({complaint})"))
    instances, specks = mask_to_instances(levels > THRESHOLD, min_area)
    digest = hashlib.sha256(image_hash + mask_hash).hexdigest()
    return Reading(
        width,
        height,
        digest,
        instances,
        specks,
        is_in_alpha(mask, levels),
        image_digest=image_hash,
    )


def mask_to_instances(mask: np.ndarray, min_area: int) -> tuple[list[dict[str, Any]], int]:
    """Split a boolean mask (H, W) into its 8-connected components.

    Returns COCO annotations without ids (bbox as x, y, width, height and area in pixels, mask as
    compressed RLE with str counts), from top to bottom, and the number of components of less than
    ``min_area`` pixels, which are left out.
    """
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))  # corners count as touching
    areas = np.bincount(labels.ravel())
    instances, specks = [], 0
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if areas[label] < min_area:
            specks += 1
            continue
        rle = mask_util.encode(np.asfortranarray(labels == label, dtype=np.uint8))
        instances.append(
            {
                "category_id": 1,
                "bbox": [
                    columns.start,
                    rows.start,
                    columns.stop - columns.start,
                    rows.stop - rows.start,
                ],
                "area": int(areas[label]),
                "iscrowd": 0,
                "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
            }
        )
    instances.sort(key=lambda i: (i["bbox"][1], i["bbox"][0], i["segmentation"]["counts"]))
    return instances, specks


def _open(path: Path) -> tuple[Image.Image, bytes]:
    """Open a file whole, without decoding it; return it with the sha256 of its bytes."""
    data = path.read_bytes()
    return Image.open(io.BytesIO(data)), hashlib.sha256(data).digest()


def _reason(path: Path, error: Exception) -> str:
    return f"{path} ({unreadable(error)})"
