"""Images of 4 x 6 pixels with polyps, what a model might say of them, and their registration."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances

H, W = 4, 6


def mask(*rows: str) -> np.ndarray:
    """Rows of '#' and '.' as a bool mask."""
    return np.array([[c == "#" for c in row] for row in rows])


LEFT = mask("##....", "##....", "......", "......")  # 4 pixels
TALL = mask("##....", "##....", "##....", "##....")  # 8 pixels, holds LEFT
RIGHT = mask("......", "......", "....##", "....##")  # 4 pixels


def rle(m: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(m.astype(np.uint8)))


def dicts_of(images: dict, centres: dict | None = None, crowds: dict | None = None) -> list[dict]:
    """Detectron2's dicts of images given as {image_id: [masks]}, and their crowds as well."""
    return [
        {
            "image_id": image_id,
            "file_name": f"{image_id}.jpg",
            "height": masks[0].shape[0] if masks else H,
            "width": masks[0].shape[1] if masks else W,
            "annotations": [
                {"segmentation": rle(m), "iscrowd": crowd}
                for crowd, group in enumerate((masks, (crowds or {}).get(image_id, [])))
                for m in group
            ],
            **({"centre": centres[image_id]} if image_id in (centres or {}) else {}),
        }
        for image_id, masks in images.items()
    ]


@contextmanager
def registering() -> Iterator[Callable[..., str]]:
    """Give a function that registers images under a new name; the names go at the end."""
    names = []

    def add(images: dict, centres: dict | None = None, crowds: dict | None = None) -> str:
        name = f"polyp_test_{uuid.uuid4().hex}"
        dicts = dicts_of(images, centres, crowds)
        DatasetCatalog.register(name, lambda: dicts)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)


def instances(*scored: tuple[float, np.ndarray], size=(H, W)) -> Instances:
    result = Instances(size)
    result.scores = torch.tensor([s for s, _ in scored], dtype=torch.float32)
    masks = np.array([m for _, m in scored]).reshape(-1, *size)
    result.pred_masks = torch.from_numpy(masks.astype(bool))
    return result
