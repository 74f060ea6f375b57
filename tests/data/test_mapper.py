"""Images as users have them: read right, or refused by a sentence that names the file."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import build_detection_test_loader
from PIL import Image

from inspire_d2.data import CheckedMapper
from inspire_d2.errors import InputError

RED = (200, 30, 60)


def record(path: Path, size: tuple[int, int] = (40, 30)) -> dict[str, Any]:
    return {"file_name": str(path), "width": size[0], "height": size[1], "image_id": 1}


def mapped(path: Path, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """Read an image as a config does; returns (H, W, 3) in RGB."""
    mapper = CheckedMapper(False, augmentations=[], image_format="RGB")
    return mapper(record(path, size))["image"].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colours_survive(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image = Image.new("RGB", (40, 30), RED)
    (image.quantize(2) if mode == "P" else image.convert(mode)).save(path)
    read = mapped(path)
    assert read.shape == (30, 40, 3)
    assert np.abs(read.astype(int) - RED).max() <= 3


@pytest.mark.parametrize("mode", ["L", "1"])
def test_one_channel_becomes_three(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (40, 30))
    image.putpixel((5, 7), 255)
    image.save(tmp_path / "a.png")
    expected = np.zeros((30, 40, 3))
    expected[7, 5] = 255
    np.testing.assert_array_equal(mapped(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.arange(1200).reshape(30, 40).astype(dtype)).save(path)
    with pytest.raises(InputError, match=r"image .*deep\.tif has more than 8 bits per pixel"):
        mapped(path)


def test_exif_turns_an_image_that_fits_so(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the left half becomes the upper one
    stored = np.zeros((30, 40, 3), np.uint8)
    stored[:, :20] = 255
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    image = mapped(path, (30, 40))
    assert image[:18].min() > 240 and image[22:].max() < 15
    with pytest.raises(
        InputError, match=r"turned\.jpg is 30x40 \(40x30 before its EXIF .* for 40x30"
    ):
        mapped(path)


def broken(folder: Path) -> Path:
    """Write half of a JPEG."""
    path = folder / "half.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"half\.jpg cannot be read \(image file is truncated"):
        mapped(broken(tmp_path))
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"text\.jpg cannot be read \(not an image\)"):
        mapped(tmp_path / "text.jpg")
    with pytest.raises(InputError, match=r"gone\.jpg cannot be read \(No such file"):
        mapped(tmp_path / "gone.jpg")


def test_the_map_of_stuff_is_named_where_it_is_the_broken_one(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.new("RGB", (40, 30)).save(good)
    mapper = CheckedMapper(True, augmentations=[], image_format="RGB")
    with pytest.raises(InputError, match=r"image .*half\.jpg cannot be read"):
        mapper({**record(good), "sem_seg_file_name": str(broken(tmp_path))})


def test_a_workers_sentence_arrives_alone(tmp_path: Path) -> None:
    loader = build_detection_test_loader(
        [record(broken(tmp_path))],
        mapper=CheckedMapper(False, augmentations=[], image_format="RGB"),
        num_workers=1,
    )
    with warnings.catch_warnings(), pytest.raises(InputError) as error:
        warnings.simplefilter("ignore")  # of a fork where there are threads
        list(loader)
    sentence = str(error.value)
    assert sentence.startswith(f"image {tmp_path}/half.jpg cannot be read (image file is truncated")
    assert sentence.endswith("take it out of the json")
    assert "\n" not in sentence
