"""Polyp data sets under Detectron2's names: registration, checks, loading."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from inspire_d2.data.coco_checks import CocoSet, check_coco, read_coco
from inspire_d2.errors import InputError

__all__ = ["POLYP_SETS", "check_polyp_dataset", "polyp_dataset", "register_polyps"]

PRANET_TESTS = ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir")

# Folder of a set: (its splits, the options that prepare it). A data set is called FOLDER_SPLIT.
POLYP_SETS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "kvasir": (("train", "val"), "--layout kvasir --ratio 0.9"),
    "cvc_clinicdb": (("train", "val"), "--layout cvc-clinicdb --ratio 0.9"),
    "polypgen": (("train", "val"), "--layout polypgen --split-column centre --val-values C6"),
    "pranet": (
        ("train", "test", *(f"test_{name}" for name in PRANET_TESTS)),
        "--layout pranet --own-split",
    ),
    "synthetic_polyps": (("train", "val"), "--layout kvasir --ratio 0.8"),
}

_BUILT_IN = {
    f"{s}_{split}": (s, split) for s, (splits, _) in POLYP_SETS.items() for split in splits
}
_OWN: dict[str, tuple[str, str | None]] = {}  # name: json file, image root, as registered by users


def polyp_dataset(
    name: str, json_file: str | None = None, image_root: str | None = None
) -> list[dict[str, Any]]:
    """Return a data set in Detectron2's format; with ``json_file``, register it first.

    Made for configs: ``dataloader.train.dataset = L(polyp_dataset)(name="polypgen_train")``, or
    with your own json. A second call with the same arguments is allowed. Raises InputError when the
    name is unknown or taken by another file, or the data cannot be used.
    """
    if json_file is not None:
        register_polyps(name, json_file, image_root)
    elif image_root is not None:
        raise InputError(f"image_root of the data set {name} needs its json_file too")
    if name not in DatasetCatalog:
        raise InputError(_unknown(name))
    return DatasetCatalog.get(name)


def register_polyps(name: str, json_file: str, image_root: str | None = None) -> None:
    """Register a COCO json under ``name``; it is read at the first use.

    ``image_root`` is by default what the json's ``info.image_root`` says, relative to the json.
    Registering the same again does nothing; raises InputError when ``name`` is taken.
    """
    files = _as_registered(json_file, image_root)
    _check_free(name, files)
    if name in _OWN:
        return
    _OWN[name] = files
    _register(name, files[0])


def check_polyp_dataset(
    name: str, json_file: str | None = None, image_root: str | None = None
) -> CocoSet | None:
    """Raise InputError unless the data set can be loaded: a quick look before anything is built.

    Takes the arguments of :func:`polyp_dataset` and registers nothing. It reads the json, checks
    what is in it (``check_coco``), and that its images are there, but does not open them. Returns
    what it read, None for a name that Detectron2's catalogue has from elsewhere.
    """
    if json_file is not None:
        files = _as_registered(json_file, image_root)
        _check_free(name, files)
        coco = _locate_own(name, *files)
    elif image_root is not None:
        raise InputError(f"image_root of the data set {name} needs its json_file too")
    elif name in _OWN or name in _BUILT_IN:
        coco = _locate(name)
    elif name in DatasetCatalog:
        return None
    else:
        raise InputError(_unknown(name))
    check_coco(coco)
    return coco


def _as_registered(json_file: str, image_root: str | None) -> tuple[str, str | None]:
    root = None if image_root is None else os.path.abspath(image_root)
    return os.path.abspath(json_file), root


def _check_free(name: str, files: tuple[str, str | None]) -> None:
    if _OWN.get(name) == files:
        return
    if name in _OWN:
        raise InputError(f"the data set name {name} is taken by {_OWN[name][0]}: choose another")
    if name in DatasetCatalog:
        raise InputError(f"the data set name {name} is taken: choose another for {files[0]}")


def _unknown(name: str) -> str:
    known = ", ".join([*_BUILT_IN, *_OWN])
    return f"there is no data set {name!r}: give its json_file, or take one of {known}"


def _register(name: str, json_file: str | None) -> None:
    DatasetCatalog.register(name, partial(_load, name))
    metadata = MetadataCatalog.get(name)
    metadata.set(evaluator_type="coco", thing_classes=["polyp"])
    if json_file is not None:
        metadata.json_file = json_file


def _load(name: str) -> list[dict[str, Any]]:
    coco = _locate(name)
    check_coco(coco)
    metadata = MetadataCatalog.get(name)
    # Metadata refuses new values, but the file may have moved since the name was registered.
    for key in ("json_file", "image_root", "thing_classes", "thing_dataset_id_to_contiguous_id"):
        vars(metadata).pop(key, None)
    metadata.set(json_file=coco.json_file, image_root=coco.image_root)
    return load_coco_json(coco.json_file, coco.image_root, name)


def _locate(name: str) -> CocoSet:
    """Return what is registered under a name."""
    if name in _OWN:
        return _locate_own(name, *_OWN[name])
    folder, _ = _BUILT_IN[name]
    json_file = _find_json(name)
    if json_file is None:
        raise InputError(_not_prepared(name))
    content = read_coco(json_file)
    standard = _data_roots()[0] / folder
    if (standard / content["images"][0]["file_name"]).is_file():
        return CocoSet(json_file, content, str(standard))
    return CocoSet(json_file, content, _root_of(name, json_file, content))


def _locate_own(name: str, json_file: str, image_root: str | None) -> CocoSet:
    content = read_coco(json_file)
    return CocoSet(json_file, content, image_root or _root_of(name, json_file, content))


def _root_of(name: str, json_file: str, content: dict[str, Any]) -> str:
    """Return the image root that the json's info names, relative to the json's folder."""
    info = content.get("info")
    root = info.get("image_root") if isinstance(info, dict) else None
    if not isinstance(root, str):
        raise InputError(
            f"{json_file} does not say where its images are: give image_root for {name}"
        )
    return os.path.normpath(Path(json_file).resolve().parent / root)


def _data_roots() -> list[Path]:
    """Return where data sets are looked for: the environment's folder, ours here, the project's."""
    first = Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
    return [first, Path("datasets"), Path(__file__).resolve().parents[2] / "datasets"]


def _find_json(name: str) -> str | None:
    folder, split = _BUILT_IN[name]
    for root in _data_roots():
        file = root / folder / "annotations" / f"{split}.json"
        if file.is_file():
            return os.path.abspath(file)
    return None


def _not_prepared(name: str) -> str:
    folder, split = _BUILT_IN[name]
    root = _data_roots()[0] / folder
    return (
        f"the data set {name} is not prepared, there is no {folder}/annotations/{split}.json in"
        f" {' or '.join(dict.fromkeys(map(str, _data_roots())))}; with its images in {root}, run:"
        f" python datasets/prepare_polyps.py --root {root} {POLYP_SETS[folder][1]}"
    )


for _name in _BUILT_IN:
    if _name not in DatasetCatalog:
        _register(_name, _find_json(_name))
