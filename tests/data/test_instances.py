"""Masks to instances: against OpenCV's components, and through Detectron2 pixel for pixel."""

import io
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from PIL import Image
from scipy import ndimage

from inspire_d2.data.images import check_image_header
from inspire_d2.data.instances import mask_to_instances, read_pair
from inspire_d2.errors import InputError

SIZE = (48, 64)  # H, W


def blobs(seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SIZE), 2.0)
    return noise > np.quantile(noise, 0.75)


def special(name: str) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    if name == "hole":
        mask[10:30, 10:40] = True
        mask[15:20, 20:30] = False
        mask[17, 25] = True  # an island in the hole
    elif name == "border":
        mask[0, :] = mask[:, -1] = True
        mask[40:, :5] = True
    elif name == "diagonal":
        mask[np.arange(40), np.arange(40)] = True
        mask[np.arange(40), 63 - np.arange(40) // 2] = True
    elif name == "full":
        mask[:] = True
    return mask


MASKS = {name: special(name) for name in ("none", "hole", "border", "diagonal", "full")}
MASKS |= {f"blobs{seed}": blobs(seed) for seed in range(3)}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("min_area", [1, 30])
def test_components_are_opencvs(name: str, min_area: int) -> None:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        MASKS[name].astype(np.uint8), connectivity=8
    )
    expected = [labels == i for i in range(1, count)]
    kept = [component for component in expected if component.sum() >= min_area]
    instances, specks = mask_to_instances(MASKS[name], min_area)
    assert specks == len(expected) - len(kept)
    found = [mask_util.decode(i["segmentation"]).astype(bool) for i in instances]
    assert {m.tobytes() for m in found} == {m.tobytes() for m in kept}
    for instance, mask in zip(instances, found, strict=True):
        (label,) = np.unique(labels[mask])
        assert [*instance["bbox"], instance["area"]] == stats[label].tolist()
        assert isinstance(instance["segmentation"]["counts"], str)


@pytest.mark.parametrize("name", MASKS)
def test_masks_survive_detectron2(name: str, tmp_path: Path) -> None:
    instances, _ = mask_to_instances(MASKS[name], 1)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    annotations = [{**i, "category_id": 0, "bbox_mode": BoxMode.XYWH_ABS} for i in instances]
    record = {
        "file_name": str(tmp_path / "a.png"),
        "height": SIZE[0],
        "width": SIZE[1],
        "image_id": 1,
        "annotations": annotations,
    }
    mapper = DatasetMapper(
        True, augmentations=[], image_format="BGR", use_instance_mask=True,
        instance_mask_format="bitmask",
    )  # fmt: skip
    result = mapper(record)["instances"]
    assert len(result) == len(instances)
    union = np.zeros(SIZE, int)
    for mask in result.gt_masks.tensor.numpy() if instances else []:
        union += mask
    np.testing.assert_array_equal(union, MASKS[name].astype(int))
    assert result.gt_classes.tolist() == [0] * len(instances)


def save(mask: Image.Image, folder: Path, **options: object) -> Path:
    file = folder / f"mask.{options.pop('suffix', 'png')}"
    mask.save(file, **options)
    return file


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def stored(kind: str, mask: np.ndarray) -> tuple[Image.Image, dict[str, object]]:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    if kind == "jpeg":
        return grey, {"suffix": "jpg", "quality": 75}
    if kind == "colour jpeg":
        return grey.convert("RGB"), {"suffix": "jpg", "quality": 60}
    if kind == "16 bit":
        return Image.fromarray(mask.astype(np.uint16) * 65535), {}
    if kind.startswith("palette"):
        image = Image.fromarray(mask.astype(np.uint8), "P")
        colour = {"palette white": 255, "palette dark": 60}[kind]
        image.putpalette([0, 0, 0, colour, 0 if colour < 255 else 255, colour])
        return image, {}
    return grey.convert(kind), {}


KINDS = ["L", "1", "RGB", "RGBA", "jpeg", "colour jpeg", "16 bit", "palette white", "palette dark"]


@pytest.mark.parametrize("kind", KINDS)
def test_ways_to_store_a_mask(kind: str, photo: Path, tmp_path: Path) -> None:
    mask = np.zeros(SIZE, bool)
    mask[8:40, 16:48] = True
    image, options = stored(kind, mask)
    reading = read_pair(photo, save(image, tmp_path, **options), 30)
    assert reading.problem is None
    (instance,) = reading.instances
    found = mask_util.decode(instance["segmentation"]).astype(bool)
    if "jpeg" in kind:
        assert (found != mask).mean() < 0.01
    else:
        np.testing.assert_array_equal(found, mask)


def test_noise_of_a_jpeg_is_binarised(photo: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = MASKS["hole"]
    noisy = np.where(mask, 255 - rng.integers(0, 8, SIZE), rng.integers(0, 8, SIZE))
    file = save(Image.fromarray(noisy.astype(np.uint8)), tmp_path)
    reading = read_pair(photo, file, 1)
    union = sum(mask_util.decode(i["segmentation"]).astype(int) for i in reading.instances)
    np.testing.assert_array_equal(union, mask.astype(int))


def test_smooth_edges_are_a_mask(photo: Path, tmp_path: Path) -> None:
    smooth = ndimage.uniform_filter(MASKS["blobs0"].astype(float), 3)
    levels = (smooth * 255).astype(np.uint8)
    assert ((levels > 7) & (levels < 248)).mean() > 0.05
    assert read_pair(photo, save(Image.fromarray(levels), tmp_path), 30).problem is None


@pytest.mark.parametrize("what", ["photo", "grey polyp", "indices", "half"])
def test_not_a_mask(what: str, photo: Path, tmp_path: Path) -> None:
    mask = special("full") if what == "half" else MASKS["hole"]
    level = {"grey polyp": 100, "indices": 1, "half": 160}.get(what, 0)
    image = Image.open(photo) if what == "photo" else Image.fromarray(mask.astype(np.uint8) * level)
    kind, detail = read_pair(photo, save(image, tmp_path), 30).problem
    assert kind == "masks that are not black and white"
    assert "mask.png" in detail


def test_broken_files(photo: Path, tmp_path: Path) -> None:
    mask = save(Image.new("L", SIZE[::-1]), tmp_path)
    buffer = io.BytesIO()
    Image.open(photo).save(buffer, "JPEG")
    truncated = tmp_path / "cut.jpg"
    truncated.write_bytes(buffer.getvalue()[:-200])
    text = tmp_path / "text.png"
    text.write_text("no image")
    empty = tmp_path / "empty.png"
    empty.touch()
    for broken in (truncated, text, empty, tmp_path / "gone.png"):
        assert read_pair(broken, mask, 30).problem[0] == "unreadable images"
        assert read_pair(photo, broken, 30).problem[0] == "unreadable masks"


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colours_of_16_bits_are_refused(
    channels: int, suffix: str, photo: Path, tmp_path: Path
) -> None:
    """Pillow keeps their upper 8 bits: a mask of 0 and 255 would be black, a polyp's image none."""
    file = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(file), np.full((*SIZE, channels), 255, np.uint16))
    assert np.asarray(Image.open(file))[..., :3].max() == 0
    kind, detail = read_pair(photo, file, 30).problem
    assert kind == "masks that are not black and white" and "16 bits per channel" in detail
    kind, detail = read_pair(file, photo, 30).problem
    assert kind == "images that are read wrongly" and "16 bits per channel" in detail
    with pytest.raises(InputError, match="16 bits per channel"):
        check_image_header(str(file))


def test_size_is_what_detectron2_sees_after_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    mask = save(Image.new("L", (20, 30)), tmp_path)
    reading = read_pair(tmp_path / "a.jpg", mask, 30)
    assert (reading.width, reading.height, reading.problem) == (20, 30, None)
    upright = save(Image.new("L", (30, 20)), tmp_path)
    kind, _ = read_pair(tmp_path / "a.jpg", upright, 30).problem
    assert kind == "images and masks of different size"


def test_images_that_training_refuses(tmp_path: Path) -> None:
    mask = save(Image.new("L", (30, 20)), tmp_path)
    deep, turned = tmp_path / "deep.png", tmp_path / "turned.tif"
    Image.fromarray(np.full((20, 30), 4000, np.uint16)).save(deep)
    for orientation in (3, 6):
        Image.new("RGB", (20, 30)).save(turned, tiffinfo={0x0112: orientation})
        for file, what in ((deep, "more than 8 bits"), (turned, "turn it twice: save it upright")):
            kind, detail = read_pair(file, mask, 30).problem
            assert kind == "images that are read wrongly"
            assert detail.startswith(f"{file} ") and what in detail
            with pytest.raises(InputError, match=what):
                check_image_header(str(file), (30, 20))
    Image.new("RGB", (30, 20)).save(turned, tiffinfo={0x0112: 1})
    assert read_pair(turned, mask, 30).problem is None
    check_image_header(str(turned), (30, 20))
