"""Checks of a COCO json: that it can be read, what refers to what in it, that its images are there.

What its boxes and masks hold is the matter of ``coco_shapes``.
"""

import gc
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from inspire_d2.data.coco_shapes import check_boxes, check_segmentations
from inspire_d2.data.images import check_image_header
from inspire_d2.errors import InputError, first_few

__all__ = [
    "CocoSet",
    "check_class_count",
    "check_class_order",
    "check_coco",
    "check_image_headers",
    "check_references",
    "no_garbage_collection",
    "read_coco",
]

_REQUIRED = {
    "categories": ("id", "name"),
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}
_SCAN_FROM = 32  # images in a folder from which listing it beats asking for each of them
_LONGEST = 1_000_000  # pixels, of an image's side: more is a mistake
_OPENED = 2000  # images opened before a run, evenly spread: a second, or some where files are far


class CocoSet(NamedTuple):
    """A COCO json: its path, what it holds, and the folder of its images."""

    json_file: str
    content: dict[str, Any]
    image_root: str

    @property
    def class_names(self) -> list[str]:
        """The categories' names by id, which is the order of the model's classes."""
        return [c["name"] for c in sorted(self.content["categories"], key=lambda c: c["id"])]


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Pause the search for cycles, of which a json has none: it doubles the time that one takes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@no_garbage_collection()
def read_coco(json_file: str) -> dict[str, Any]:
    """Read a COCO json; raise InputError unless its three lists are there and can be used."""
    try:
        content = json.loads(Path(json_file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{json_file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{json_file} is not a json file, or only a part of one: {error}"
        ) from error
    for key, fields in _REQUIRED.items():
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not (rows or key == "annotations"):
            raise InputError(f"{json_file} is not a COCO json: it has no list of {key}")
        for row in rows:
            if not isinstance(row, dict) or any(field not in row for field in fields):
                raise InputError(f"{json_file}: one of its {key} lacks one of {', '.join(fields)}")
        _check_ids(json_file, key, [row["id"] for row in rows])
    for image in content["images"]:
        size = (image["width"], image["height"])
        if not all(isinstance(side, int) and 0 < side <= _LONGEST for side in size):
            raise InputError(
                f"{json_file}: image {image['id']} has width {size[0]!r} and height {size[1]!r}:"
                f" give both in pixels, as whole numbers from 1 to {_LONGEST}"
            )
        if not isinstance(image["file_name"], str) or "\0" in image["file_name"]:
            raise InputError(
                f"{json_file}: image {image['id']} has the file_name {image['file_name']!r}, which"
                " is no file's name"
            )
    for one in content["annotations"]:
        if one.get("iscrowd", 0) not in (0, 1):
            raise InputError(
                f"{json_file}: annotation {one['id']} has iscrowd {one['iscrowd']!r}, not 0 or 1"
            )
        if one.get("ignore", 0) != 0:
            raise InputError(
                f"{json_file}: annotation {one['id']} has ignore {one['ignore']!r}, which is not"
                " read: set iscrowd to 1 for a region to be left out, with its mask as RLE, or take"
                " the annotation out"
            )
        if not _are_keypoints(one.get("keypoints")):
            raise InputError(
                f"{json_file}: annotation {one['id']} has keypoints that are not x, y, visibility"
                " of each in one list of numbers: correct them, or take them out"
            )
    return content


def _are_keypoints(points: Any) -> bool:
    if points is None or points == []:
        return True
    numbers = isinstance(points, list) and all(type(n) in (int, float) for n in points)
    return numbers and len(points) % 3 == 0


@no_garbage_collection()
def check_coco(coco: CocoSet) -> None:
    """Raise InputError when a set would train or score wrongly; warn of what is left out.

    Annotations must refer to images and categories, boxes and masks must be right, and the images
    there, which are not opened.
    """
    json_file, content, image_root = coco
    check_references(json_file, content)
    check_boxes(json_file, content)
    check_segmentations(json_file, content)
    missing = _missing([row["file_name"] for row in content["images"]], image_root)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(content['images'])} images of {json_file} are not in"
            f" {image_root}: {first_few(missing)}"
        )


def check_image_headers(coco: CocoSet) -> None:
    """Open up to 2000 images, evenly spread; raise InputError if the set tells them otherwise.

    What needs more than a file's header, such as a truncated end, shows when it is read.
    """
    images = coco.content["images"]
    for image in images[:: -(-len(images) // _OPENED)]:
        path = os.path.join(coco.image_root, image["file_name"])
        check_image_header(path, (image["width"], image["height"]))


def check_class_count(coco: CocoSet, key: str, count: int, background: int = 0) -> None:
    """Raise InputError unless the model's ``count`` of classes, set at ``key``, is the json's.

    Args:
        background: classes that the model has beside the categories.
    """
    found = len(coco.content["categories"])
    if count != found + background:
        beside = " and a background" if background else ""
        raise InputError(
            f"{coco.json_file} has {found} categories ({first_few(coco.class_names, 3)}){beside},"
            f" the model has {count} classes: set {key}={found + background}, or give the json the"
            " categories that the model knows"
        )


def check_class_order(class_names: Mapping[str, Sequence[str]]) -> None:
    """Raise InputError when two jsons have the same categories in another order of ids.

    Args:
        class_names: of each json file, by id.
    """
    files = list(class_names)
    for file in files[1:]:
        first, other = class_names[files[0]], class_names[file]
        if first != other and sorted(first, key=str) == sorted(other, key=str):
            raise InputError(
                f"{files[0]} and {file} have the same categories under different ids"
                f" ({first_few(first, 3)}; {first_few(other, 3)}), which mixes up the classes:"
                " give both the same ids"
            )


def _check_ids(json_file: str, key: str, ids: list[Any]) -> None:
    wrong = [i for i in ids if type(i) is not int]
    if wrong:
        raise InputError(
            f"{json_file}: {len(wrong)} of its {key} have an id that is not a whole number"
            f" ({first_few([repr(i) for i in wrong], 3)})"
        )
    if len(set(ids)) < len(ids):
        seen: set[int] = set()
        twice = [i for i in ids if i in seen or seen.add(i)]
        raise InputError(
            f"{json_file}: some of its {key} have the same id ({first_few(twice)}):"
            " number them anew"
        )


def check_references(json_file: str, content: dict[str, Any]) -> None:
    """Raise InputError where annotations are of images or categories that are not there."""
    annotations = content["annotations"]
    for key, owner in (("image_id", "images"), ("category_id", "categories")):
        ids = {row["id"] for row in content[owner]}
        wrong = [row for row in annotations if type(row[key]) is not int]
        lost = wrong or [row for row in annotations if row[key] not in ids]
        if not lost:
            continue
        message = (
            f"{json_file}: {len(lost)} annotations have a {key} that none of its {owner} has"
            f" (annotation {first_few([row['id'] for row in lost])})"
        )
        if wrong:
            message += f"; {first_few([repr(row[key]) for row in wrong], 3)} is no whole number"
        elif owner == "categories":
            used = {row[key] for row in annotations}
            message += (
                f": categories have ids {min(ids)} to {max(ids)}, annotations {min(used)} to"
                f" {max(used)}"
            )
            if min(used) != min(ids):
                message += f"; count both from {min(ids)}"
        raise InputError(message)


def _missing(file_names: list[str], image_root: str) -> list[str]:
    """Return the files that are not under ``image_root``; a large folder is listed only once."""
    folders: dict[str, list[str]] = {}
    for file_name in file_names:
        folders.setdefault(os.path.dirname(file_name), []).append(file_name)
    missing = []
    for folder, members in folders.items():
        path = os.path.join(image_root, folder)
        if len(members) < _SCAN_FROM:
            missing += [m for m in members if not os.path.isfile(os.path.join(image_root, m))]
            continue
        try:
            there = set(os.listdir(path))
        except OSError:
            there = set()
        missing += [m for m in members if os.path.basename(m) not in there]
    return missing
