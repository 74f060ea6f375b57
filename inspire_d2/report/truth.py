"""The ground truth of a run's test set, with where each image lies."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import BoxMode
from omegaconf import DictConfig, OmegaConf

from inspire_d2.data.coco_checks import read_coco
from inspire_d2.engine.checks import check_datasets
from inspire_d2.errors import InputError
from inspire_d2.evaluation.polyp_masks import annotation_rle
from inspire_d2.evaluation.polyp_tables import image_centres

__all__ = ["Item", "Thing", "Truth", "read_truth", "shown_names", "test_set_names"]

RLE = dict[str, Any]


class Thing(NamedTuple):
    """An object of the truth, or what a model took for one."""

    category: int  # the data set's id
    box: list[float]  # x, y, width, height in pixels
    mask: RLE | None
    score: float = 1.0
    crowd: bool = False


@dataclass
class Item:
    """An image of the test set."""

    id: Any
    name: str  # as it is shown
    width: int
    height: int
    path: str | None = None  # None: the images are not at hand
    centre: str | None = None
    things: list[Thing] = field(default_factory=list)
    number: int = 0  # its place in the set


@dataclass
class Truth:
    """A test set."""

    items: dict[Any, Item]
    categories: dict[int, str]  # names by the data set's ids
    problem: str = ""  # why there are no images, in a sentence


def read_truth(cfg: DictConfig) -> Truth:
    """Read the test set of a config, from its json alone where its images are not at hand.

    Raises:
        InputError: its annotations are not at hand either, or of no use.
    """
    names = test_set_names(cfg)
    try:
        check_datasets(cfg, ("test",))
        dicts = instantiate(cfg.dataloader.test.dataset)
    except (InputError, OSError, AssertionError) as error:
        reason = str(error).rstrip(".")
        problem = f"The images of the test set are not at hand ({reason})."
        return _from_json(cfg, names, problem)
    centres: dict[Any, str] = {}
    ids: dict[int, int] = {}
    classes: list[str] = []
    for name in names:
        centres |= image_centres(dicts, name)
        metadata = MetadataCatalog.get(name)
        ids |= {k: v for v, k in metadata.get("thing_dataset_id_to_contiguous_id", {}).items()}
        classes = metadata.get("thing_classes", classes)
    categories = {ids.get(k, k): str(one) for k, one in enumerate(classes)}
    return Truth(_items(dicts, centres, ids, with_paths=True), categories)


def test_set_names(cfg: DictConfig) -> list[str]:
    """Return what the test set is called in Detectron2's catalogue."""
    node = cfg.dataloader.test.dataset
    names = node.get("names") or node.get("name") or []
    return [names] if isinstance(names, str) else list(names)


def _from_json(cfg: DictConfig, names: list[str], problem: str) -> Truth:
    json_file = OmegaConf.select(cfg, "dataloader.test.dataset.json_file")
    if json_file is None and names:
        json_file = MetadataCatalog.get(names[0]).as_dict().get("json_file")
    if json_file is None or not os.path.isfile(json_file):
        raise InputError(problem.replace("images", "annotations", 1))
    content = read_coco(json_file)
    centres = {image["id"]: image.get("centre") for image in content["images"]}
    centres = {key: str(centre) for key, centre in centres.items() if centre not in (None, "")}
    dicts = load_coco_json(json_file, "", dataset_name=None)
    categories = {one["id"]: str(one["name"]) for one in content["categories"]}
    return Truth(_items(dicts, centres, {}, with_paths=False), categories, problem)


def _items(
    dicts: list[dict[str, Any]],
    centres: Mapping[Any, str],
    ids: Mapping[int, int],
    *,
    with_paths: bool,
) -> dict[Any, Item]:
    """Turn Detectron2's dicts, whose classes ``ids`` turns into category ids, into items."""
    names = shown_names([one["file_name"] for one in dicts])
    items = {}
    for number, (record, name) in enumerate(zip(dicts, names, strict=True)):
        item = Item(
            id=record["image_id"],
            name=name,
            width=record["width"],
            height=record["height"],
            path=record["file_name"] if with_paths else None,
            centre=centres.get(record["image_id"]),
            number=number,
        )
        for one in record.get("annotations", []):
            category = ids.get(one["category_id"], one["category_id"])
            crowd = bool(one.get("iscrowd", 0))
            mode = BoxMode(one.get("bbox_mode", BoxMode.XYWH_ABS))
            box = [float(v) for v in BoxMode.convert(list(one["bbox"]), mode, BoxMode.XYWH_ABS)]
            item.things.append(Thing(category, box, annotation_rle(one, record), crowd=crowd))
        items[item.id] = item
    return items


def shown_names(paths: list[str]) -> list[str]:
    """Name files by what their paths do not have in common."""
    folders = {os.path.dirname(path) for path in paths}
    if len(folders) == 1 or len({Path(path).name for path in paths}) == len(paths):
        return [Path(path).name for path in paths]
    common = os.path.commonpath(folders)
    return [os.path.relpath(path, common) for path in paths]
