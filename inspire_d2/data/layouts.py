"""Where each data set keeps its images and masks, and how the two are paired by name."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from inspire_d2.data.problems import Problems
from inspire_d2.data.synthetic_manifest import check_complete
from inspire_d2.errors import InputError, first_few, printable, warn

__all__ = ["LAYOUTS", "Pair", "find_pairs"]

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# "mask" alone is for PolypGen's C3_EndoCV2021_00489_.jpg, whose mask has one underscore, not two.
MASK_SUFFIXES = ("_mask", "-mask", "_gt", "_seg", "_segmentation", "mask")
SYSTEM_FILES = ("Thumbs.db", "desktop.ini")  # which nobody misses
IMAGE_FOLDERS = ("images", "image")
MASK_FOLDERS = ("masks", "mask")
POLYPGEN_CENTRES = tuple(f"C{i}" for i in range(1, 7))


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    ``name`` is unique in the set; ``file_name`` is the image's path relative to the root, with
    "/"; ``part`` is the json the set's own split puts it in ("" where the set has none);
    ``attributes`` hold what is known of it, such as its centre.
    """

    name: str
    image: Path
    mask: Path
    file_name: str
    part: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


def find_pairs(
    layout: str,
    root: Path,
    problems: Problems,
    images: Path | None = None,
    masks: Path | None = None,
) -> list[Pair]:
    """List the pairs of a data set, sorted by name.

    ``images`` and ``masks`` name the two folders of the layout "folders" (by default found in
    ``root``). Images and masks that do not match one to one go to ``problems``. Raises InputError
    when the folders of the layout are not there.
    """
    if (images or masks) and layout != "folders":
        raise InputError(f"--images and --masks belong to --layout folders, not to {layout}")
    for option, folder in (("--images", images), ("--masks", masks), ("--root", root)):
        if folder is not None and not os.path.isdir(folder):
            raise InputError(f"{option} {folder} is not a folder")
    check_complete(root)
    root = Path(os.path.abspath(root))  # links inside it stay as they are named
    if layout == "folders" and (images or masks):
        pairs = _given_folders(root, images, masks, problems)
    else:
        pairs = LAYOUTS[layout](root, problems)
    if not pairs and not problems:
        problems.add("no images", root)
    _report_duplicates([p.name for p in pairs], "images of the same name", problems)
    return sorted(pairs, key=lambda pair: pair.name)


def _given_folders(
    root: Path, images: Path | None, masks: Path | None, problems: Problems
) -> list[Pair]:
    if images is None or masks is None:
        raise InputError("--images and --masks go together: one of them is missing")
    if images.resolve() == masks.resolve():
        raise InputError(f"--images and --masks are the same folder, {images}")
    images, masks = Path(os.path.abspath(images)), Path(os.path.abspath(masks))
    if not images.is_relative_to(root):
        raise InputError(f"--images {images} does not lie under --root {root}")
    return _pair_folders(root, images, masks, problems)


def _images_and_masks(root: Path, problems: Problems) -> list[Pair]:
    images, masks = _first_tree(root, [(i, m) for i in IMAGE_FOLDERS for m in MASK_FOLDERS])
    return _pair_folders(root, images, masks, problems)


def _cvc_clinicdb(root: Path, problems: Problems) -> list[Pair]:
    trees = [("Original", "Ground Truth")]
    trees += [(f"{sub}/Original", f"{sub}/Ground Truth") for sub in ("PNG", "TIF")]
    images, masks = _first_tree(root, [*trees, ("images", "masks")])
    return _pair_folders(root, images, masks, problems)


def _polypgen(root: Path, problems: Problems) -> list[Pair]:
    centres = [c for c in POLYPGEN_CENTRES if (root / f"data_{c}").is_dir()]
    if not centres:
        if not (root / "images").is_dir():
            raise InputError(
                f"{root} holds neither PolypGen's data_C1 .. data_C6 nor the folders images, masks"
            )
        return _images_and_masks(root, problems)
    pairs = []
    for centre in centres:
        folder = root / f"data_{centre}"
        images, masks = _first_tree(folder, [(f"images_{centre}", f"masks_{centre}")])
        found = _pair_folders(root, images, masks, problems, prefix=f"{centre}_")
        pairs += [Pair(p.name, p.image, p.mask, p.file_name, "", {"centre": centre}) for p in found]
    return pairs


def _pranet(root: Path, problems: Problems) -> list[Pair]:
    """Read TrainDataset, TestDataset, one of its sets, or the folder that holds both."""
    if any((root / name).is_dir() for name in IMAGE_FOLDERS):
        part = "train" if root.name == "TrainDataset" else f"test_{root.name}"
        return _with_part(_images_and_masks(root, problems), part)
    pairs = []
    if (root / "TrainDataset").is_dir():
        pairs += _pranet_set(root, root / "TrainDataset", "train", problems)
    test = root / "TestDataset" if (root / "TestDataset").is_dir() else root
    for folder in sorted(path for path in test.iterdir() if path.is_dir()):
        if any((folder / name).is_dir() for name in IMAGE_FOLDERS) and folder.name not in (
            "TrainDataset",
            "TestDataset",
        ):
            pairs += _pranet_set(root, folder, f"test_{folder.name}", problems)
    if not pairs and not problems:
        raise InputError(f"{root} holds neither TrainDataset, TestDataset nor their folders")
    return pairs


def _pranet_set(root: Path, folder: Path, part: str, problems: Problems) -> list[Pair]:
    images, masks = _first_tree(folder, [(i, m) for i in IMAGE_FOLDERS for m in MASK_FOLDERS])
    pairs = _pair_folders(root, images, masks, problems, prefix=f"{folder.name}/")
    return _with_part(pairs, part)


LAYOUTS: dict[str, Callable[[Path, Problems], list[Pair]]] = {
    "kvasir": _images_and_masks,
    "cvc-clinicdb": _cvc_clinicdb,
    "polypgen": _polypgen,
    "pranet": _pranet,
    "folders": _images_and_masks,
}


def _with_part(pairs: Sequence[Pair], part: str) -> list[Pair]:
    """Put pairs into a part of the set's own split; a test set is a centre to be told apart."""
    centre = {"centre": part.removeprefix("test_")} if part.startswith("test_") else {}
    return [replace(pair, part=part, attributes=pair.attributes | centre) for pair in pairs]


def _first_tree(root: Path, trees: Sequence[tuple[str, str]]) -> tuple[Path, Path]:
    """Return the first pair of folders that exists under ``root``; raise InputError if none."""
    for images, masks in trees:
        if (root / images).is_dir() and (root / masks).is_dir():
            return root / images, root / masks
    wanted = " or ".join(f"{images} and {masks}" for images, masks in trees)
    raise InputError(f"{root} does not hold the folders {wanted}")


def _key(stem: str) -> str:
    """Return what two names share when a file system or a person would take them for one."""
    return unicodedata.normalize("NFC", stem).casefold()


def _list_images(folder: Path, problems: Problems) -> list[Path]:
    """List a folder's images; links to nothing are problems, other entries are warned of."""
    images, others = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if printable(entry.name) != entry.name:
                problems.add("names that are not UTF-8", printable(entry.path))
            elif entry.is_symlink() and not os.path.exists(entry.path):
                problems.add("links to files that are not there", entry.path)
            elif entry.is_file() and entry.name.lower().endswith(IMAGE_EXTENSIONS):
                images.append(folder / entry.name)
            elif entry.name not in SYSTEM_FILES:
                others.append(entry.name + ("/" if entry.is_dir() else ""))
    if others:
        warn(
            f"{len(others)} files or folders of {folder} are not read, being no images of"
            f" {', '.join(IMAGE_EXTENSIONS)}: {first_few(others, 3)}"
        )
    return images


def _mask_key(stem: str, image_keys: set[str]) -> str | None:
    """Return the key of the image a mask belongs to: the same stem, or that with a suffix."""
    key = _key(stem)
    if key in image_keys:
        return key
    for suffix in MASK_SUFFIXES:
        if key.endswith(suffix) and key.removesuffix(suffix) in image_keys:
            return key.removesuffix(suffix)
    return None


def _pair_folders(
    root: Path, images: Path, masks: Path, problems: Problems, prefix: str = ""
) -> list[Pair]:
    """Match the files of two folders; names get ``prefix`` unless they have it already."""
    image_files = _list_images(images, problems)
    _report_duplicates([f.stem for f in image_files], "images of the same name", problems, images)
    image_keys = {_key(f.stem) for f in image_files}
    mask_of: dict[str, list[Path]] = {}
    for mask in _list_images(masks, problems):
        key = _mask_key(mask.stem, image_keys)
        if key is None:
            problems.add("masks without an image", mask)
        else:
            mask_of.setdefault(key, []).append(mask)
    pairs, seen = [], set()
    for image in image_files:
        key = _key(image.stem)
        if key in seen:
            continue
        seen.add(key)
        found = mask_of.get(key, [])
        if not found:
            problems.add("images without a mask", image)
        elif len(found) > 1:
            both = ", ".join(mask.name for mask in found)
            problems.add("images with more than one mask", f"{image.name} ({both})")
        else:
            name = image.stem if image.stem.startswith(prefix) else prefix + image.stem
            pairs.append(Pair(name, image, found[0], image.relative_to(root).as_posix()))
    return pairs


def _report_duplicates(
    names: Sequence[str], kind: str, problems: Problems, folder: Path | None = None
) -> None:
    """Report names that differ in case, extension or Unicode form only."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_key(name), []).append(name)
    for group in groups.values():
        if len(group) > 1:
            where = f" in {folder}" if folder else ""
            problems.add(kind, " = ".join(group) + where)
