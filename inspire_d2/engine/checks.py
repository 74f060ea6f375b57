"""Checks of a run's data and options, made before a model is built."""

import contextlib
import difflib
import inspect
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch.nn.parallel import DistributedDataParallel

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
from .checkpointing import CheckpointHook
from .volume_checks import check_same_kind, check_volumes

__all__ = ["check_datasets", "check_train_options"]

# Classes of pixels, and those that a backbone was pretrained on.
_NOT_THINGS = re.compile(r"\.(sem|backbone)")
# Of each mapping, the keys that it needs, and those that it may have; None where a call tells.
_TRAIN_MAPPINGS = {
    "checkpointer": ((), None),
    "ddp": ((), None),
    "checkpoint": (("allow_partial",), ()),
    "amp": (("enabled",), ()),
    "lr_scaling": (("enabled", "batch_size"), ()),
    "dist": ((), ("port", "backend", "timeout_s")),
    "tta": (("enabled",), ("wrapper",)),
}
_TRAIN_KEYS = (
    *("output_dir", "init_checkpoint", "device", "seed", "max_iter", "log_period", "eval_period"),
    *("checkpointer", "checkpoint", "amp", "ddp"),
)
# Configs saved before they came lack the first; the last are default_setup's.
_OPTIONAL_TRAIN_KEYS = (
    *("lr_scaling", "channels_last", "dist", "tta"),
    *("cudnn_benchmark", "float32_precision"),
)
_PRECISIONS = ("highest", "high", "medium")
# What whole numbers must be at least
_WHOLE = {
    "train.max_iter": 1,
    "train.log_period": 1,
    "train.eval_period": 0,
    "train.checkpointer.period": 1,
    "dataloader.train.total_batch_size": 1,
}
_MAX_SEED = 4_000_000_000  # NumPy takes what is below 2**32, and each rank adds its number
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
            sets = list(_coco_sets(node))
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
    """Raise InputError where ``train`` has no folder, a wrong number or an unknown key.

    What training needs of ``dataloader`` is looked at, too.
    """
    for section, keys, model in (
        ("train", _TRAIN_KEYS, "configs/common/train.py"),
        ("dataloader", ("train", "test", "evaluator"), "one of configs/common/data"),
    ):
        node = cfg[section] if isinstance(cfg[section], DictConfig) else {}
        if lacking := [key for key in keys if key not in node]:
            raise InputError(
                f"{section} of the config lacks {', '.join(lacking)}: begin with {model}."
            )
    known = (*_TRAIN_KEYS, *_OPTIONAL_TRAIN_KEYS)
    _check_known("train of the config", cfg.train, known, {k for k in cfg.train if _refers(cfg, k)})
    for key, (needed, optional) in _TRAIN_MAPPINGS.items():
        node = cfg.train.get(key)
        if not node and key not in _TRAIN_KEYS:
            continue
        if not isinstance(node, DictConfig) or not set(needed) <= set(node):
            raise InputError(
                f"train.{key}={node!r} must be a mapping of the keys that "
                "configs/common/train.py gives it."
            )
        if optional is not None:
            _check_known(f"train.{key}", node, (*needed, *optional))
    output_dir = cfg.train.output_dir
    if not output_dir or not isinstance(output_dir, str):
        raise InputError(f"train.output_dir={output_dir!r} names no folder.")
    if output_dir.startswith("~"):  # a shell leaves it as it is within a word
        raise InputError(f'train.output_dir={output_dir}: write "$HOME" for ~.')
    _check_arguments("train.checkpointer", CheckpointHook, cfg.train.checkpointer, None)
    ddp = {key: value for key, value in cfg.train.ddp.items() if key != "fp16_compression"}
    _check_arguments("train.ddp", DistributedDataParallel, ddp, None)
    for key, least in _WHOLE.items():
        _check_whole(cfg, key, least)
    _check_whole(cfg, "train.checkpointer.max_to_keep", 0, optional=True)
    if not (type(cfg.train.seed) is int and cfg.train.seed <= _MAX_SEED):
        raise InputError(
            f"train.seed={cfg.train.seed!r} must be a whole number of at most {_MAX_SEED}."
        )
    precision = cfg.train.get("float32_precision")
    if precision and precision not in _PRECISIONS:
        raise InputError(
            f"train.float32_precision={precision!r}: take one of {', '.join(_PRECISIONS)}."
        )
    tta = cfg.train.get("tta")
    if tta and tta.enabled and "wrapper" not in tta:
        raise InputError(
            "train.tta.enabled=True needs train.tta.wrapper: see configs/common/tta.py."
        )
    if cfg.train.get("lr_scaling"):
        _check_whole(cfg, "train.lr_scaling.batch_size", 1, optional=True)


def _refers(cfg: DictConfig, key: str) -> bool:
    """Whether a config refers to a key of its ``train``."""
    texts = [str(OmegaConf.to_container(node, resolve=False)) for node in (cfg, cfg.train)]
    ways = (r"\$\{train\.", r"\$\{\.+")
    return any(
        re.search(rf"{way}{re.escape(str(key))}\b", text)
        for way, text in zip(ways, texts, strict=True)
    )


def _check_known(
    what: str, node: DictConfig, known: Sequence[str], others: Collection[str] = ()
) -> None:
    """Raise InputError where a mapping has a key that nothing reads, such as a mistyped one."""
    for key in map(str, node):
        if key not in known and key not in others:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"take from {', '.join(known)}."
            raise InputError(f"{what} has {key}, which nothing reads; {hint}")


def _check_whole(cfg: DictConfig, key: str, least: int, *, optional: bool = False) -> None:
    """Raise InputError unless a value is a whole number, ``least`` or more, or left out."""
    value = OmegaConf.select(cfg, key)
    if not (type(value) is int and value >= least) and not (optional and value is None):
        raise InputError(f"{key}={value!r} must be a whole number from {least} up.")
