"""What tools/study.py trains and scores on: PolypGen with centres held out, or a user's own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspire_d2.errors import InputError, first_few
from tools.study_run import REPOSITORY

__all__ = ["by_name", "hold_out", "take_own"]

SPLITS = ("train", "val")


def by_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Name each folder with a split of the user's own, by itself or what holds its annotations.

    Raises:
        InputError: one lacks a json, or two of them have one name.
    """
    named: dict[str, Path] = {}
    for folder in map(Path.resolve, folders):
        for json_file in (folder / f"{split}.json" for split in SPLITS):
            if not json_file.is_file():
                raise InputError(
                    f"{json_file} does not exist: --splits takes folders with a train.json and a "
                    "val.json, as datasets/prepare_polyps.py writes them."
                )
        name = folder.parent.name if folder.name == "annotations" else folder.name
        name = re.sub(r"[^\w.-]", "_", name) or "split"
        if name in named:
            raise InputError(
                f"--splits names {name} twice: it tells runs apart, so give the folders names that "
                "differ."
            )
        named[name] = folder
    return named


def hold_out(centre: str, root: Path, folder: Path) -> None:
    """Write the jsons of the split that holds a centre, or several (C1+C2), out; once."""
    if (folder / "val.json").exists():
        from tools.study_folder import refuse_another_root  # seconds to import

        refuse_another_root(folder, root)
        return
    code = subprocess.run(
        [sys.executable, "datasets/prepare_polyps.py", "--layout", "polypgen",
         "--root", root.resolve(), "--split-column", "centre", "--val-values", *centre.split("+"),
         "--output", folder], cwd=REPOSITORY, stdout=subprocess.DEVNULL,
    ).returncode  # fmt: skip
    if code:
        sys.exit(code)  # it has said why


def take_own(source: Path, folder: Path) -> None:
    """Copy train.json and val.json of a user's own to a study's folder; once.

    The copies tell later calls whether the split is still the one that earlier runs had.

    Raises:
        InputError: one cannot be used, there is nothing to find in val.json, both have an image,
            or another split was taken before.
    """
    wanted = {split: _read(source / f"{split}.json") for split in SPLITS}
    if not wanted["val"]["annotations"]:
        raise InputError(f"{source}/val.json has no annotations: Dice needs some to be found.")
    images = {split: _image_files(content) for split, content in wanted.items()}
    if both := sorted(images["train"] & images["val"]):
        raise InputError(
            f"{len(both)} images are in both train.json and val.json of {source} "
            f"({first_few(both, 3)}): a study scores images that were not trained on."
        )
    for split, content in wanted.items():
        copy = folder / f"{split}.json"
        if not copy.exists():
            folder.mkdir(parents=True, exist_ok=True)
            partial = copy.with_suffix(".partial")
            partial.write_text(json.dumps(content))
            partial.replace(copy)
        elif json.loads(copy.read_text()) != content:
            raise InputError(
                f"{copy} was made from other images or annotations than {source}/{split}.json has "
                "now: name another --output."
            )


def _read(json_file: Path) -> dict[str, Any]:
    """Read a json, with the path of its images made absolute."""
    from inspire_d2.data.polyp import check_polyp_dataset  # seconds to import

    coco = check_polyp_dataset(json_file.stem, str(json_file))
    assert coco is not None  # it has a json
    info = coco.content.get("info") or {}
    return coco.content | {"info": info | {"image_root": os.path.abspath(coco.image_root)}}


def _image_files(content: dict[str, Any]) -> set[str]:
    root = content["info"]["image_root"]
    return {os.path.realpath(os.path.join(root, image["file_name"])) for image in content["images"]}
