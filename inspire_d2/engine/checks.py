"""Checks of a run's data, checkpoint and folder, made before a model is built."""

import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
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
from ..data.mri import check_mri_dataset, mri_dataset
from ..data.polyp import check_polyp_dataset, polyp_dataset
from ..data.semantic import SemanticMapper
from ..errors import InputError
from .checkpoint_files import newest_checkpoint
from .checkpointing import CheckpointHook
from .volume_checks import check_volumes

__all__ = ["check_datasets", "check_output_dir", "check_train_options", "find_checkpoint"]

# Classes of pixels, and those that a backbone was pretrained on.
_NOT_THINGS = re.compile(r"\.(sem|backbone)")
_TRAIN_KEYS = (
    *("output_dir", "init_checkpoint", "device", "seed", "max_iter", "log_period", "eval_period"),
    *("checkpointer", "checkpoint", "amp", "ddp"),
)
_COCO_TYPES = ("coco", "coco_panoptic_seg")  # of Detectron2's metadata, evaluator_type


def check_datasets(cfg: DictConfig, splits: tuple[str, ...]) -> None:
    """Raise InputError if a data set of ``dataloader.train`` or ``.test`` cannot be used.

    COCO jsons, which are read for it, must be right in themselves, fit the model's classes and
    masks, and have their images in place; a prepared MRI set must have its arrays, labels to train
    on, and the model's regions and channels; other data sets must be there.
    """
    class_names: dict[str, list[str]] = {}
    for split in splits:
        for node in _calls(cfg.dataloader[split].dataset):
            if _target(node) is mri_dataset:
                content = check_mri_dataset(**_options(node), labelled=split == "train")
                check_volumes(cfg, split, node.name, content, training="train" in splits)
                continue
            sets = list(_coco_sets(node))
            for coco in sets:
                check_image_headers(coco)
                _check_fit(cfg, split, coco)
                class_names[coco.json_file] = coco.class_names
            if split == "train" and sets and node.get("filter_empty", "names" in node):
                _check_objects(sets)
    check_class_order(class_names)


def _coco_sets(node: DictConfig) -> Iterator[CocoSet]:
    """Check the data sets that a lazy call loads; yield those that have a COCO json."""
    target = _target(node)
    if target is polyp_dataset:
        coco = check_polyp_dataset(**_options(node))
        if coco is not None:
            yield coco
    elif "names" in node:
        for name in [node.names] if isinstance(node.names, str) else node.names:
            coco = _check_registered(name)
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
    """Return what a lazy call calls."""
    return locate(node._target_) if isinstance(node._target_, str) else node._target_


def _options(node: DictConfig) -> dict[str, Any]:
    """Return what a lazy call hands over; raise InputError where what it calls does not take it."""
    target, options = _target(node), {key: node[key] for key in node if key != "_target_"}
    _check_arguments(f"{target.__name__}, the data set of the config", target, options)
    return options


def _check_arguments(
    what: str, target: Callable[..., Any], options: Mapping[str, Any], *given: Any
) -> None:
    """Raise InputError where a callable does not take some arguments, or needs others."""
    try:
        inspect.signature(target).bind(*given, **options)
    except TypeError as error:
        raise InputError(f"{what}: {error}.") from error


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


def _check_registered(name: str) -> CocoSet | None:
    """Check a data set of Detectron2's catalogue: its name, its files, its json if it is COCO's."""
    if name not in DatasetCatalog.list():
        close = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise InputError(f"data set {name} is not registered{hint}")
    metadata = MetadataCatalog.get(name).as_dict()
    for key in ("json_file", "image_root"):
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


def check_train_options(cfg: DictConfig) -> None:
    """Raise InputError where ``train`` has no folder, a wrong number or an unknown key."""
    if lacking := [key for key in _TRAIN_KEYS if key not in cfg.train]:
        raise InputError(
            f"train of the config lacks {', '.join(lacking)}: begin with configs/common/train.py."
        )
    output_dir = cfg.train.output_dir
    if not output_dir or not isinstance(output_dir, str):
        raise InputError(f"train.output_dir={output_dir!r} names no folder.")
    if output_dir.startswith("~"):  # a shell leaves it as it is within a word
        raise InputError(f'train.output_dir={output_dir}: write "$HOME" for ~.')
    for key in ("train.max_iter", "train.log_period", "train.checkpointer.period"):
        value = OmegaConf.select(cfg, key)
        if value is not None and not (type(value) is int and value >= 1):
            raise InputError(f"{key}={value!r} must be a whole number from 1 up.")
    _check_arguments("train.checkpointer", CheckpointHook, cfg.train.checkpointer, None)


def check_output_dir(output_dir: str, *, resume: bool) -> None:
    """Raise InputError if a run cannot write to its folder, or would write over another run's."""
    if not resume and os.path.exists(os.path.join(output_dir, "last_checkpoint")):
        raise InputError(
            f"{output_dir} holds the checkpoints of a run: pass --resume to go on with it, or "
            "another train.output_dir."
        )
    try:
        os.makedirs(output_dir, exist_ok=True)
    except OSError as error:
        raise InputError(f"train.output_dir={output_dir}: {error.strerror}.") from error
    if not os.access(output_dir, os.W_OK):
        raise InputError(f"train.output_dir={output_dir} cannot be written to.")


def find_checkpoint(cfg: DictConfig, *, eval_only: bool, resume: bool, named: bool) -> str:
    """Return the path of the checkpoint that a run starts from; "" to start from nothing.

    To score, that is the one ``named`` on the command line, else the run's last: never the
    config's own, which holds what training starts from.

    Raises:
        InputError: it is not there, or there is none to score.
    """
    run_dir, path = cfg.train.output_dir, cfg.train.init_checkpoint or ""
    if eval_only and named and not path:
        raise InputError(
            "--eval-only: train.init_checkpoint names no file; leave it out to score the last "
            f"checkpoint of {run_dir}."
        )
    wanted = not named if eval_only else resume
    last = newest_checkpoint(run_dir) if wanted else ""
    if eval_only and not named and not last:
        raise InputError(
            f"--eval-only: {run_dir} holds no checkpoint; name one with "
            "train.init_checkpoint=FILE, or the run's folder with train.output_dir=RUN."
        )
    path = last or path
    # What has a scheme (detectron2://, https://) is fetched by Detectron2 when it is loaded.
    if path and "://" not in path and not os.path.isfile(path):
        raise InputError(
            f"checkpoint {path} does not exist; name another with train.init_checkpoint=FILE "
            "(README.md says how to make ImageNet's)."
        )
    return path
