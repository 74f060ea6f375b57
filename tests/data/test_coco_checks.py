"""COCO jsons that cannot be used are refused with a sentence; COCO's own pass."""

import copy
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from PIL import Image

from inspire_d2.data.coco_checks import (
    CocoSet,
    check_class_count,
    check_class_order,
    check_coco,
    check_image_headers,
    read_coco,
)
from inspire_d2.data.coco_shapes import check_masks, check_scored
from inspire_d2.errors import InputError

Content = dict[str, Any]
Change = Callable[[Content], object]
WIDTH, HEIGHT = 50, 40
SQUARE = [5, 6, 25, 6, 25, 26, 5, 26]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the images 0.png and 1.png."""
    for name in ("0.png", "1.png"):
        Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 199)).save(tmp_path / name)
    return tmp_path


def content() -> Content:
    """Two images; a cat (id 3) as a polygon, a dog (id 7) and a crowd of cats as RLE."""

    def annotation(number: int, image: int, category: int, **more: Any) -> Content:
        box = {"bbox": [5, 6, 20, 20], "area": 400, "iscrowd": 0}
        return {"id": number, "image_id": image, "category_id": category, **box, **more}

    rle = {"size": [HEIGHT, WIDTH], "counts": [100, 50, WIDTH * HEIGHT - 150]}
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (0, 1)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            annotation(10, 0, 3, segmentation=[SQUARE], ignore=0, keypoints=[]),
            annotation(11, 0, 7, segmentation=rle),
            annotation(12, 1, 3, segmentation=copy.deepcopy(rle), iscrowd=1),
        ],
    }


def changed(root: Path, change: Change = lambda c: None) -> CocoSet:
    """Write a json with one thing changed, and read it as a user's."""
    new = content()
    change(new)
    file = root / "my.json"
    file.write_text(json.dumps(new))
    return CocoSet(str(file), read_coco(str(file)), str(root))


def annotation_with(**entries: Any) -> Change:
    return lambda c: c["annotations"][0].update(entries)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_what_is_right_passes_in_silence(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    coco = changed(root)
    check_coco(coco)
    check_image_headers(coco)
    check_scored(coco.json_file, coco.content)
    check_masks(coco.json_file, coco.content, needed=True, polygons=False)
    assert coco.class_names == ["cat", "dog"]
    assert not warnings(caplog)


def test_coco_itself_passes(shared_datasets: Path) -> None:
    for split in ("train2017", "val2017"):
        file = shared_datasets / "coco/annotations" / f"instances_{split}.json"
        if not file.is_file():
            pytest.skip(f"{file} is not there")
        coco = CocoSet(str(file), read_coco(str(file)), str(shared_datasets / "coco" / split))
        check_coco(coco)
        check_image_headers(coco)
        check_scored(coco.json_file, coco.content)
        check_masks(coco.json_file, coco.content, needed=True, polygons=True)
        check_class_count(coco, "model.roi_heads.num_classes", 80)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"images": [', "not a json file, or only a part of one"),
        ("images", "not a json file"),
        ("[]", "no list of categories"),
        ('{"categories": [], "images": []}', "no list of categories"),
    ],
)
def test_what_is_no_coco_json(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "my.json").write_text(text)
    with pytest.raises(InputError, match=rf"my\.json.*{sentence}"):
        read_coco(str(tmp_path / "my.json"))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_coco(str(tmp_path / "gone.json"))


REFUSED: dict[str, tuple[Change, str]] = {
    "no images": (lambda c: c.pop("images"), "no list of images"),
    "no annotations": (lambda c: c.pop("annotations"), "no list of annotations"),
    "same image id": (lambda c: c["images"][1].update(id=0), r"its images have the same id \(0\)"),
    "same annotation id": (annotation_with(id=12), r"annotations have the same id \(12\)"),
    "text as id": (annotation_with(id="x"), "1 of its annotations have an id that is not a whole"),
    "text as category": (annotation_with(category_id="3"), "'3' is no whole number"),
    "no size": (lambda c: c["images"][0].update(width=None), "image 0 has width None and height"),
    "lost image": (
        annotation_with(image_id=5),
        r"1 annotations have a image_id that none of its images has \(annotation 10\)",
    ),
    "classes from 0": (
        lambda c: (
            c.update(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]),
            [a.update(category_id=i % 2) for i, a in enumerate(c["annotations"])],
        ),
        r"2 annotations .* \(annotation 10, 12\): categories have ids 1 to 2, annotations 0 to 1;"
        " count both from 1",
    ),
    "three numbers": (annotation_with(bbox=[1, 2, 3]), "not four numbers.*10 of 0.png"),
    "text in a box": (annotation_with(bbox=["1", 2, 3, 4]), "1 annotations whose bbox is not four"),
    "null in a box": (annotation_with(bbox=[None, 2, 3, 4]), "not four numbers"),
    "no list": (annotation_with(bbox=None), "not four numbers"),
    "NaN box": (annotation_with(bbox=[1, math.nan, 3, 4]), "NaN or infinity.*10 of 0.png"),
    "infinite box": (annotation_with(bbox=[1, 2, 3, math.inf]), "NaN or infinity"),
    "negative box": (annotation_with(bbox=[30, 6, -20, 20]), "negative width or height"),
    "box to the right": (annotation_with(bbox=[WIDTH + 2, 6, 5, 5]), "lies outside its image"),
    "box above": (annotation_with(bbox=[5, -30, 5, 20]), "lies outside its image.*10 of 0.png"),
    "NaN polygon": (annotation_with(segmentation=[[*SQUARE, 1, math.nan]]), "polygons hold NaN"),
    "flat polygon": (annotation_with(segmentation=SQUARE), "neither polygons"),
    "points as pairs": (annotation_with(segmentation=[[[1, 2], [3, 4], [5, 6]]]), "neither"),
    "text as mask": (annotation_with(segmentation="mask.png"), "neither polygons"),
    "no counts": (annotation_with(segmentation={"size": [HEIGHT, WIDTH]}), "nor RLE"),
    "turned RLE": (
        annotation_with(segmentation={"size": [WIDTH, HEIGHT], "counts": [0, WIDTH * HEIGHT]}),
        "another size than the image's.*10 of 0.png",
    ),
    "short RLE": (
        annotation_with(segmentation={"size": [HEIGHT, WIDTH], "counts": [0, 9]}),
        "counts do not add up",
    ),
    "short compressed RLE": (
        annotation_with(segmentation={"size": [HEIGHT, WIDTH], "counts": "T3"}),
        "counts do not add up.*10 of 0.png",
    ),
    "noise as RLE": (
        annotation_with(segmentation={"size": [HEIGHT, WIDTH], "counts": "~~"}),
        "no compressed RLE",
    ),
    "ignored": (annotation_with(ignore=1), "annotation 10 has ignore 1, .*set iscrowd to 1"),
    "keypoints of text": (annotation_with(keypoints=["a"]), "annotation 10 has keypoints that are"),
    "keypoints in pairs": (annotation_with(keypoints=[1, 2, 3, 4]), "x, y, visibility"),
    "keypoints a number": (annotation_with(keypoints=3), "correct them, or take them out"),
    "lost file": (lambda c: c["images"][1].update(file_name="lost.png"), r"1 of 2 .*: lost\.png$"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(root: Path, what: str) -> None:
    change, sentence = REFUSED[what]
    with pytest.raises(InputError, match=sentence) as error:
        check_coco(changed(root, change))
    assert str(root / "my.json") in str(error.value)
    assert "\n" not in str(error.value)


LEFT_OUT: dict[str, tuple[Change, str]] = {
    "no width": (annotation_with(bbox=[5, 6, 0, 20]), "1 annotations have a bbox without area"),
    "no height": (annotation_with(bbox=[5, 6, 20, 0]), "bbox without area.*10"),
    "at the edge": (annotation_with(bbox=[WIDTH, 6, 0.5, 20]), "bbox without area"),
    "two points": (annotation_with(segmentation=[[1, 2, 3, 4]]), "fewer than 3 points"),
    "odd number": (annotation_with(segmentation=[SQUARE[:-1]]), "odd number of coordinates"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_detectron2_leaves_out_is_told(
    root: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, sentence = LEFT_OUT[what]
    coco = changed(root, change)
    check_coco(coco)
    (warning,) = warnings(caplog)
    assert "my.json" in warning and "(annotation 10)" in warning
    assert all(part in warning for part in sentence.split(".*"))
    # What the sentence says is so: of the two objects of the first image, the second is left.
    coco.content["annotations"][1]["segmentation"] = [SQUARE]
    Path(coco.json_file).write_text(json.dumps(coco.content))
    name = f"{root.name}_{what}"
    record = load_coco_json(coco.json_file, coco.image_root, name)[0]
    mapper = DatasetMapper(True, augmentations=[], image_format="RGB", use_instance_mask=True)
    assert mapper(record)["instances"].gt_classes.tolist() == [1]
    MetadataCatalog.remove(name)


def test_two_corners_as_box_are_suspected(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    def corners(c: Content) -> None:
        for annotation in c["annotations"]:
            annotation["bbox"] = [20, 20, 45, 38]

    check_coco(changed(root, corners))
    (warning,) = warnings(caplog)
    assert "3 annotations reach over the edge" in warning and "two corners?" in warning


def test_no_annotations_are_fine(root: Path) -> None:
    coco = changed(root, lambda c: c["annotations"].clear())
    check_coco(coco)
    check_masks(coco.json_file, coco.content, needed=True, polygons=True)


def test_masks_that_a_model_needs(root: Path) -> None:
    coco = changed(root)
    file, new = coco.json_file, coco.content
    with pytest.raises(InputError, match=r"1 annotations whose mask is RLE.*=bitmask.*11 of 0"):
        check_masks(file, new, needed=True, polygons=True)
    new["annotations"][0]["segmentation"] = []
    for needed in (True, False):
        with pytest.raises(InputError, match=r"1 annotations without a segmentation.*10 of 0.png"):
            check_masks(file, new, needed=needed, polygons=False)
    del new["annotations"][1]["segmentation"]
    check_masks(file, new, needed=False, polygons=True)


@pytest.mark.parametrize("area", [None, "400", True, -1, float("nan"), float("inf")])
def test_scores_need_areas(root: Path, area: Any) -> None:
    coco = changed(root, lambda c: c["annotations"][0].update(area=area))
    with pytest.raises(InputError, match=r"without an area.*10 of 0.png"):
        check_scored(coco.json_file, coco.content)


def test_classes_are_the_models(root: Path) -> None:
    coco = changed(root)
    check_class_count(coco, "model.roi_heads.num_classes", 2)
    check_class_count(coco, "model.sem_seg_head.num_classes", 3, background=1)
    sentence = r"2 categories \(cat, dog\), the model has 80.*: set model.roi_heads.num_classes=2"
    with pytest.raises(InputError, match=sentence):
        check_class_count(coco, "model.roi_heads.num_classes", 80)
    with pytest.raises(InputError, match="and a background.*set x=3"):
        check_class_count(coco, "x", 2, background=1)


def test_two_jsons_number_their_classes_alike() -> None:
    check_class_order({"a.json": ["cat", "dog"], "b.json": ["cat", "dog"], "c.json": ["x", "y"]})
    with pytest.raises(InputError, match=r"a\.json and b\.json have the same categories"):
        check_class_order({"a.json": ["cat", "dog"], "b.json": ["dog", "cat"]})


def test_images_are_opened(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT + 1, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "1.png")
    with pytest.raises(InputError, match=r"1\.png is 50x41, but its annotations are for 50x40"):
        check_image_headers(changed(root))
