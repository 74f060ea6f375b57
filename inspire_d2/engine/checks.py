"""Checks of a run's data, made before a model is built."""

import contextlib
import difflib
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf

from ..data.coco_checks import (
    CocoSet,
    check_class_count,
    check_class_order,
    check_coco,
    check_image_headers,
    read_coco,
)
from ..data.coco_shapes import check_masks, check_scored
from ..data.mri import check_mri_dataset, mri_dataset, mri_index
from ..data.polyp import check_polyp_dataset, polyp_dataset
from ..data.semantic import SemanticMapper
from ..errors import InputError
from ..evaluation.volume import VolumeEvaluator
from .train_options import check_arguments
from .volume_checks import check_same_kind, check_volumes

__all__ = ["check_datasets"]

# Classes of pixels, and those that a backbone was pretrained on.
_NOT_THINGS = re.compile(r"\.(sem|backbone)")
_COCO_TYPES = ("coco", "coco_panoptic_seg")  # of Detectron2's metadata, evaluator_type


def check_datasets(cfg: DictConfig, splits: tuple[str, ...]) -> None:
    """Raise InputError if a data set of ``dataloader.train`` or ``.test`` cannot be used.

    COCO jsons, which are read for it, must be right in themselves, fit the model's classes and
    masks, and have their images in place; a prepared MRI set must have its arrays, labels to train
    on, the model's regions and channels, and be of the kind trained on; other data sets must be
    there. An evaluator of volumes must be one that can be built.
    """
    class_names: dict[str, list[str]] = {}
    for split in splits:
        for node in _calls(cfg.dataloader[split].dataset):
            if _target(node) is mri_dataset:
                content = check_mri_dataset(**_options(node), labelled=split == "train")
                check_volumes(cfg, split, node.name, content, training="train" in splits)
                for trained_on in _train_volumes(cfg) if split == "test" else ():
                    check_same_kind(trained_on, node.name, content)
                continue
            sets = list(_coco_sets(node, split))
            for coco in sets:
                check_image_headers(coco)
                _check_fit(cfg, split, coco)
                class_names[coco.json_file] = coco.class_names
            if split == "train" and sets and node.get("filter_empty", "names" in node):
                _check_objects(sets)
    check_class_order(class_names)
    for node in _calls(cfg.dataloader.get("evaluator")):
        if _target(node) is VolumeEvaluator:
            instantiate(node)  # raises; in training it would, after the last iteration
        # It imports that only at the first image that it scores.
        if _target(node) is COCOPanopticEvaluator and find_spec("panopticapi") is None:
            raise InputError(
                "dataloader.evaluator: panoptic segmentation is scored by panopticapi, which is "
                "not there: pip install panopticapi-lite."
            )


def _train_volumes(cfg: DictConfig) -> list[dict[str, Any]]:
    """Return the indexes of the MRI sets trained on, but for those that are not there any more."""
    contents = []
    for node in _calls(OmegaConf.select(cfg, "dataloader.train.dataset")):
        if _target(node) is mri_dataset:
            with contextlib.suppress(InputError):
                contents.append(mri_index(**_options(node)))
    return contents


def _coco_sets(node: DictConfig, split: str) -> Iterator[CocoSet]:
    """Check the data sets that a lazy call loads; yield those that have a COCO json."""
    target = _target(node)
    if target is polyp_dataset:
        coco = check_polyp_dataset(**_options(node))
        if coco is not None:
            yield coco
    elif "names" in node:
        for name in [node.names] if isinstance(node.names, str) else node.names:
            coco = _check_registered(name, split)
            if coco is not None:
                yield coco


def _check_objects(sets: list[CocoSet]) -> None:
    """Raise InputError where Detectron2 would leave out every image, as none has an object."""
    if all(a.get("iscrowd", 0) for coco in sets for a in coco.content["annotations"]):
        raise InputError(
            f"{', '.join(coco.json_file for coco in sets)}: no image has an object to train on; to "
            "train on images without objects, set dataloader.train.dataset.filter_empty=False."
        )


def _check_fit(cfg: DictConfig, split: str, coco: CocoSet) -> None:
    """Check a json against the config's model, and the mapper that reads masks for training."""
    entries = dict(_entries(cfg.model, "model"))
    mapper = cfg.dataloader.train.mapper
    semantic = _target(mapper) is SemanticMapper
    for key, value in entries.items():
        if key.endswith(".num_classes") and isinstance(value, int) and not _NOT_THINGS.search(key):
            check_class_count(coco, key, value)
    if semantic:
        key = "model.sem_seg_head.num_classes"
        check_class_count(coco, key, entries[key], background=1)
    has_masks = semantic or any(
        key.rpartition(".")[2].startswith("mask_head") and value is not None
        for key, value in entries.items()
    )
    if split == "train" and (semantic or mapper.get("use_instance_mask")):
        as_polygons = not semantic and mapper.get("instance_mask_format", "polygon") == "polygon"
        check_masks(coco.json_file, coco.content, needed=has_masks, polygons=as_polygons)
    elif split == "test":
        check_scored(coco.json_file, coco.content)
        if has_masks:
            check_masks(coco.json_file, coco.content, needed=True, polygons=False)


def _target(node: DictConfig) -> Any:
    """Return what a lazy call calls; raise InputError where there is no such thing."""
    if not isinstance(node._target_, str):
        return node._target_
    try:
        return locate(node._target_)
    except ImportError as error:
        raise InputError(f"_target_={node._target_} of the config: {error}.") from error


def _options(node: DictConfig) -> dict[str, Any]:
    """Return what a lazy call hands over; raise InputError where what it calls does not take it."""
    target, options = _target(node), {key: node[key] for key in node if key != "_target_"}
    check_arguments(f"{target.__name__}, the data set of the config", target, options)
    return options


def _entries(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Walk a config: each entry's dotted key and value, but for those that refer to another."""
    if isinstance(node, DictConfig):
        keys = list(node)
    else:
        keys = list(range(len(node))) if isinstance(node, ListConfig) else []
    for key in keys:
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        yield f"{path}.{key}", node[key]
        yield from _entries(node[key], f"{path}.{key}")


def _calls(node: DictConfig) -> Iterator[DictConfig]:
    """Walk a config's lazy calls, the outermost first."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        children = node.values()
    else:
        children = node if isinstance(node, ListConfig) else ()
    for child in children:
        yield from _calls(child)


def _check_registered(name: str, split: str) -> CocoSet | None:
    """Check a data set of Detectron2's catalogue: its name, its files, its json if it is COCO's."""
    if name not in DatasetCatalog.list():
        close = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise InputError(f"data set {name} is not registered{hint}")
    metadata = MetadataCatalog.get(name).as_dict()
    scored = ("panoptic_root", "panoptic_json") if split == "test" else ()
    for key in ("json_file", "image_root", "sem_seg_root", *scored):
        path = metadata.get(key)
        if path and not os.path.exists(path):
            raise InputError(
                f"data set {name}: {path} does not exist; put the data there, or set "
                "DETECTRON2_DATASETS to the folder that holds it."
            )
    if metadata.get("evaluator_type") not in _COCO_TYPES or not metadata.get("json_file"):
        return None
    json_file = os.fspath(metadata["json_file"])
    coco = CocoSet(json_file, read_coco(json_file), os.fspath(metadata["image_root"]))
    check_coco(coco)
    return coco
