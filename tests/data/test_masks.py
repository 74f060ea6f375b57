"""Masks that lose a polyp are refused, and noise is none."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from inspire_d2.data.instances import read_pair

HEIGHT, WIDTH = 300, 400
WHITE, OTHER = (slice(70, 110), slice(90, 140)), (slice(10, 30), slice(10, 40))
BESIDE = (slice(70, 110), slice(50, 90))  # touches the white one


def two(first: object, second: object, where: tuple[slice, slice], kind: type) -> np.ndarray:
    """Two polyps of these values on black."""
    mask = np.zeros((HEIGHT, WIDTH, *np.shape(first)), kind)
    mask[WHITE], mask[where] = first, second
    return mask


def palette(where: tuple[slice, slice], *colours: int) -> Image.Image:
    image = Image.fromarray(two(1, 2, where, np.uint8), "P")
    image.putpalette(colours)
    return image


def complaint(mask: Image.Image, folder: Path, suffix: str = "png", **options: object) -> str:
    """Return why the mask is refused, "" if it is not."""
    file = folder / f"mask.{suffix}"
    mask.save(file, **options)
    Image.new("RGB", mask.size).save(folder / "photo.png")
    problem = read_pair(folder / "photo.png", file, 30).problem
    return "" if problem is None else ": ".join(problem)


@pytest.mark.parametrize("where", [OTHER, BESIDE], ids=["apart", "beside"])
@pytest.mark.parametrize(
    ("first", "second", "kind", "level"),
    [
        ((0, 255, 0), (255, 0, 0), np.uint8, 76),
        ((255, 255, 255), (0, 0, 255), np.uint8, 29),
        (255, 100, np.uint8, 100),
        (255, 1, np.uint8, 1),
        (65535, 32767, np.uint16, 127),
    ],
    ids=["green and red", "white and blue", "grey", "void and index", "16 bit"],
)
def test_a_polyp_that_is_too_dark(
    first: object, second: object, kind: type, level: int, where: tuple, tmp_path: Path
) -> None:
    mask = two(first, second, where, kind)
    mask[2:4, 2:4] = np.asarray(second)  # specks are left out anyway
    said = complaint(Image.fromarray(mask), tmp_path)
    assert "masks that are not black and white" in said
    assert f"px of level {level} are not white, save every polyp as 255" in said


@pytest.mark.parametrize("where", [OTHER, BESIDE], ids=["apart", "beside"])
@pytest.mark.parametrize("last", [(255, 0, 0), (0, 0, 0)], ids=["red", "black"])
def test_a_palette_of_more_than_two(where: tuple, last: tuple, tmp_path: Path) -> None:
    assert "are not white" in complaint(palette(where, 0, 0, 0, 0, 255, 0, *last), tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_red_polyp_beside_a_green_one_in_a_jpeg(suffix: str, tmp_path: Path) -> None:
    stored = io.BytesIO()
    mask = two((0, 255, 0), (255, 0, 0), OTHER, np.uint8)
    Image.fromarray(mask).save(stored, "JPEG", quality=80)
    assert "are not white" in complaint(Image.open(stored), tmp_path, suffix)


def test_a_small_spot_alone_is_no_dirt_where_nothing_is_lost(tmp_path: Path) -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[20:32, 20:32] = 100
    assert "highest level is 100" in complaint(Image.fromarray(mask), tmp_path)
    assert "are not white" in complaint(Image.fromarray(mask), tmp_path, "jpg", quality=90)
    mask[20:32, 20:32] = 0
    mask[20:22, 20:24] = 20  # dirt of a JPEG
    assert complaint(Image.fromarray(mask), tmp_path, "jpg", quality=95) == ""


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("seed", range(3))
def test_noise_of_jpeg_is_no_polyp(seed: int, quality: int, tmp_path: Path) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(300, 400)), 12.0)
    mask = Image.fromarray((noise > np.quantile(noise, 0.8)).astype(np.uint8) * 255)
    assert complaint(mask, tmp_path, "jpg", quality=quality) == ""
    assert complaint(Image.open(tmp_path / "mask.jpg"), tmp_path) == ""  # kept as PNG since


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_wide_edges_are_no_polyp(sigma: float, tmp_path: Path) -> None:
    mask = np.zeros((800, 1000), float)
    mask[300:500, 300:600] = 255
    smooth = ndimage.gaussian_filter(mask, sigma).astype(np.uint8)
    assert complaint(Image.fromarray(smooth), tmp_path) == ""
