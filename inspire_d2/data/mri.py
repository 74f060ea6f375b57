"""Prepared MRI sets by name: one item per volume."""

import os
import re
from pathlib import Path
from typing import Any

from inspire_d2.data.mri_index import array_problem, read_mri_index, stored_shape
from inspire_d2.errors import InputError, first_few

__all__ = ["MRI_SETS", "check_mri_dataset", "mri_dataset", "mri_index", "mri_item"]

# Folder of a set: the options that prepare it. A data set is called FOLDER_SPLIT.
MRI_SETS = {
    "brats": "--layout brats --val-ratio 0.2",
    "atlas": "--layout atlas --val-ratio 0.2",
    "lgg": "--layout lgg --val-ratio 0.2",
}


def mri_dataset(name: str, index: str | None = None) -> list[dict[str, Any]]:
    """Return the volumes of a prepared set.

    Made for configs: ``dataloader.train.dataset = L(mri_dataset)(name="brats_train")``, or with
    ``index``, the json that datasets/prepare_mri.py wrote, and a name of your own. An item is the
    case's entry in the index with absolute paths, and image_id, file_name, height, width, and the
    set's labels and channels.

    Raises:
        InputError: the name is unknown, the set not prepared, or its index of no use.
    """
    file = _locate(name, index)
    content = read_mri_index(file)
    folder = os.path.dirname(os.path.abspath(file))
    items = []
    for entry in content["cases"]:
        paths = {
            key: None if entry[key] is None else os.path.normpath(os.path.join(folder, entry[key]))
            for key in ("image", "label", "reference")
        }
        items.append(mri_item({**entry, **paths}, content["labels"], content["channels"]))
    return items


def mri_index(name: str, index: str | None = None) -> dict[str, Any]:
    """Return the content of a prepared set's index; arguments and errors as of mri_dataset."""
    return read_mri_index(_locate(name, index))


def mri_item(entry: dict[str, Any], labels: list[int], channels: list[str]) -> dict[str, Any]:
    """Return the item of one case: its entry, and what the set and Detectron2 want to be there.

    ``entry["image"]`` and ``entry["label"]`` may be arrays instead of paths. So a case that was
    loaded for prediction alone becomes an item, without a file being written:
    ``mri_item({**case.entry, "image": case.image, "label": case.label}, labels, channels)``.
    """
    _, height, width = stored_shape(entry)
    return {
        **entry,
        "image_id": entry["case"],
        "file_name": entry["image"] if isinstance(entry["image"], str) else entry["reference"],
        "height": height,
        "width": width,
        "labels": list(labels),
        "channels": list(channels),
    }


def check_mri_dataset(
    name: str, index: str | None = None, *, labelled: bool = False
) -> dict[str, Any]:
    """Raise InputError unless the data set can be loaded: a quick look before anything is built.

    Takes the arguments of :func:`mri_dataset`. It reads the index, and of each array the header and
    the file's size. With ``labelled``, every case must have a label. Returns the index's content.
    """
    file = _locate(name, index)
    content = read_mri_index(file)
    folder = os.path.dirname(os.path.abspath(file))
    broken = [array_problem(entry, folder, len(content["channels"])) for entry in content["cases"]]
    broken = [problem for problem in broken if problem]
    if broken:
        raise InputError(
            f"the data set {name} lacks arrays that {file} names: {first_few(broken, 3)}; run"
            " datasets/prepare_mri.py again as before, it makes those alone"
        )
    bare = [entry["case"] for entry in content["cases"] if entry["label"] is None]
    if labelled and bare:
        raise InputError(
            f"the data set {name} cannot be trained on, {len(bare)} cases of {file} have no label:"
            f" {first_few(bare)}"
        )
    return content


def _locate(name: str, index: str | None) -> str:
    if index is not None:
        if not os.path.isfile(index):
            raise InputError(
                f"the data set {name}: there is no {index}; datasets/prepare_mri.py makes it"
            )
        return os.path.abspath(index)
    folder, _, split = name.partition("_")
    if folder not in MRI_SETS or not re.fullmatch(r"\w[\w.-]*", split):
        known = ", ".join(f"{known}_train, {known}_val" for known in MRI_SETS)
        raise InputError(
            f"there is no data set {name!r}: give its index=FILE, or take one of {known}"
        )
    for root in _data_roots():
        file = root / folder / "prepared" / f"{split}.json"
        if file.is_file():
            return os.path.abspath(file)
    root = _data_roots()[0] / folder
    options = MRI_SETS[folder] if split in ("train", "val") else f"--layout {folder} --all {split}"
    raise InputError(
        f"the data set {name} is not prepared, there is no {folder}/prepared/{split}.json in"
        f" {' or '.join(dict.fromkeys(map(str, _data_roots())))}; with its files in {root}, run:"
        f" python datasets/prepare_mri.py --root {root} {options}"
    )


def _data_roots() -> list[Path]:
    """Return where data sets are looked for: the environment's folder, ours here, the project's."""
    first = Path(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
    return [first, Path("datasets"), Path(__file__).resolve().parents[2] / "datasets"]
