"""Synthetic colonoscopy images with polyp masks: for tests, demos and pipelines without real data.

Polyps overlap with the mucosa in hue, light and contrast, so a colour threshold does not solve
the set; how an image is drawn is in :mod:`inspire_d2.data.synthetic_scene`.

Shape shorthand in this module: H, W (pixels of one image).
"""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from inspire_d2.data import synthetic_scene as scene
from inspire_d2.data.images import write_image
from inspire_d2.data.synthetic_manifest import MANIFEST, being_written, read_manifest
from inspire_d2.errors import InputError, first_few

__all__ = ["make_image", "write_synthetic_set"]

NEGATIVE_FRACTION = 0.15
_MIN_SIZE, _MAX_SIZE = 64, 2048


def make_image(seed: int, index: int, size: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """Draw image ``index`` of the synthetic set ``seed``.

    Args:
        seed: of the set; with ``index`` and ``size`` it determines the image completely.
        index: number of the image in the set, >= 0.
        size: nominal width in pixels, 64..2048; widths vary by 1/7 around it, heights are 0.82
            to 0.88 of the width (for 224: 192x157 to 256x225).

    Returns:
        The image, uint8 (H, W, 3) in BGR, and its mask, uint8 (H, W) of 0 and 255. Polyps (0 to 3)
        are the mask's 8-connected components; about 15 % of the images have none.

    Raises:
        InputError: seed or index is negative, or size is out of its range.
    """
    if seed < 0 or index < 0:
        raise InputError(f"seed and index must be >= 0, got seed={seed}, index={index}")
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise InputError(f"size must be {_MIN_SIZE}..{_MAX_SIZE} pixels, got {size}")
    rng = np.random.default_rng([seed, index])
    width = round(size * rng.uniform(6 / 7, 8 / 7))
    height = round(width * rng.uniform(0.82, 0.88))
    view = scene.View.draw(rng, height, width)
    albedo, light, relief = scene.mucosa(rng, view)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(_polyp_count(rng)):
        scene.add_polyp(rng, view, albedo, light, relief, mask)
    if rng.random() < 0.3:
        scene.add_debris(rng, view, albedo, relief, mask)
    return scene.render(rng, view, albedo, light, relief), mask


def write_synthetic_set(
    root: str | os.PathLike,
    num_images: int,
    seed: int = 0,
    size: int = 224,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write a synthetic set in Kvasir-SEG's layout: ``images/NAME.jpg`` and ``masks/NAME.png``.

    Args:
        root: folder to make; an existing one must be empty or hold a set of the same seed and size
            with at most ``num_images`` images (which is then written again, identically), and
            jsons in annotations/.
        num_images: >= 1. Image i is the same for every ``num_images``.
        seed, size: as in :func:`make_image`.
        progress: called after each image with (images done, images in all).

    Returns:
        The names, without suffix, in order.

    Raises:
        InputError: ``num_images`` < 1, or ``root`` holds anything else or cannot be written.
    """
    if num_images < 1:
        raise InputError(f"the number of images must be >= 1, got {num_images}")
    root = Path(root)
    names = [f"synthetic_{index:05d}" for index in range(num_images)]
    make_image(seed, 0, size)  # wrong options are found before anything is written
    _check_writable(root, names, {"seed": seed, "size": size})
    with being_written(root, {"seed": seed, "size": size}):
        for index, name in enumerate(names):
            image, mask = make_image(seed, index, size)
            write_image(root / "images" / f"{name}.jpg", image, cv2.IMWRITE_JPEG_QUALITY, 92)
            write_image(root / "masks" / f"{name}.png", mask)
            if progress is not None:
                progress(index + 1, num_images)
    return names


def _check_writable(root: Path, names: list[str], settings: dict[str, int]) -> None:
    if not os.path.exists(root):
        return
    if not root.is_dir():
        raise InputError(f"{root} is a file, not a folder")
    ours = {MANIFEST, "images", "masks", "annotations"}
    try:
        found = {path.name for path in root.iterdir()}
        if found <= ours:
            files = [path.relative_to(root) for path in root.rglob("*") if not path.is_dir()]
            # Those of the prepared set are made anew after the images.
            found = {str(path) for path in files if not path.match("annotations/*.json")}
            ours = {MANIFEST, *_files_of(names)}
    except OSError as error:
        raise InputError(f"{root} cannot be read: {error.strerror or error}") from error
    if found - ours:
        raise InputError(
            f"{root} holds other files ({first_few(sorted(found - ours), 3)}): "
            "name a new or empty folder"
        )
    if found:
        manifest = read_manifest(root)
        known = manifest and {key: manifest[key] for key in settings if key in manifest}
        if known != settings:
            raise InputError(
                f"{root} holds a set made with {known or 'unknown settings'}, not {settings}: "
                "name a new or empty folder"
            )


def _files_of(names: list[str]) -> list[str]:
    return [f"images/{name}.jpg" for name in names] + [f"masks/{name}.png" for name in names]


def _polyp_count(rng: np.random.Generator) -> int:
    if rng.random() < NEGATIVE_FRACTION:
        return 0
    return int(rng.choice([1, 2, 3], p=[0.76, 0.17, 0.07]))
