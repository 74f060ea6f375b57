"""Semantic maps from instance annotations."""

from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BoxMode
from PIL import Image

from inspire_d2.data.semantic import SemanticMapper

HEIGHT, WIDTH = 20, 30


def record(folder: Path, masks: list[np.ndarray], labels: list[int]) -> dict[str, Any]:
    """A dataset dict of one image, with RLE masks (H, W)."""
    path = folder / "image.png"
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path)
    annotations = []
    for mask, label in zip(masks, labels, strict=True):
        rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
        annotations.append(
            {
                "bbox": list(mask_util.toBbox(rle)),
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": label,
                "segmentation": rle,
            }
        )
    size = {"height": HEIGHT, "width": WIDTH}
    return {"file_name": str(path), "image_id": 1, "annotations": annotations, **size}


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[rows, columns] = True
    return mask


def test_pixels_are_their_class(tmp_path: Path) -> None:
    masks = [box(slice(2, 9), slice(3, 12)), box(slice(12, 18), slice(20, 29))]
    mapper = SemanticMapper(is_train=True, augmentations=[], image_format="RGB")
    mapped = mapper(record(tmp_path, masks, [0, 2]))
    expected = 1 * masks[0] + 3 * masks[1]
    assert torch.equal(mapped["sem_seg"], torch.from_numpy(expected))
    assert "instances" not in mapped


def test_map_moves_with_the_image(tmp_path: Path) -> None:
    mask = box(slice(2, 9), slice(3, 12))
    flip = T.RandomFlip(prob=1.0, horizontal=True, vertical=False)
    mapper = SemanticMapper(is_train=True, augmentations=[flip], image_format="RGB")
    mapped = mapper(record(tmp_path, [mask], [0]))
    assert np.array_equal(mapped["sem_seg"].numpy(), mask[:, ::-1])


def test_crowds_do_not_count(tmp_path: Path) -> None:
    crowd, polyp = box(slice(2, 15), slice(3, 20)), box(slice(5, 9), slice(10, 25))
    item = record(tmp_path, [polyp, crowd], [0, 1])
    item["annotations"][1] |= {"iscrowd": 1, "keypoints": [1, 2, 2]}
    expected = np.where(polyp, 1, np.where(crowd, 255, 0))
    flip = T.RandomFlip(prob=1.0, horizontal=True, vertical=False)
    for augmentations, wanted in (([], expected), ([flip], expected[:, ::-1])):
        mapper = SemanticMapper(True, augmentations=augmentations, image_format="RGB")
        mapped = mapper(item)
        assert np.array_equal(mapped["sem_seg"].numpy(), wanted)
        assert not {"crowds", "instances", "annotations"} & set(mapped)
    del item["annotations"][0]
    mapper = SemanticMapper(True, augmentations=[], image_format="RGB", ignore_value=7)
    assert np.array_equal(mapper(item)["sem_seg"].numpy(), 7 * crowd)


@pytest.mark.parametrize("key", ["empty", "absent"])
def test_image_without_annotations_is_background(tmp_path: Path, key: str) -> None:
    item = record(tmp_path, [], [])
    if key == "absent":
        del item["annotations"]
    mapper = SemanticMapper(is_train=True, augmentations=[], image_format="RGB")
    mapped = mapper(item)
    assert mapped["sem_seg"].shape == (HEIGHT, WIDTH)
    assert not mapped["sem_seg"].any()


def test_scoring_sees_no_annotations(tmp_path: Path) -> None:
    mapper = SemanticMapper(is_train=False, augmentations=[], image_format="RGB")
    mapped = mapper(record(tmp_path, [box(slice(0, 5), slice(0, 5))], [0]))
    assert "sem_seg" not in mapped
    assert "annotations" not in mapped
