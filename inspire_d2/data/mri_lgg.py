"""The LGG/TCGA set: a picture per slice, whose three channels are three sequences, and a mask."""

import re
from collections.abc import Mapping
from pathlib import Path

from inspire_d2.data.mri_layouts import Case, walk_files
from inspire_d2.data.problems import Problems

__all__ = ["LGG_CHANNELS", "find_lgg"]

LGG_CHANNELS = ("pre", "flair", "post")
_EXTENSIONS = (".tif", ".tiff", ".png")


def find_lgg(root: Path, patients: Mapping[str, str] | None, problems: Problems) -> list[Case]:
    """List the patients of a tree of NAME_<n>.tif and NAME_<n>_mask.tif, each a case.

    Also of the folders images and masks, whose files have the same name. ``patients`` maps a
    picture's name to its patient, by default what stands before its number. Slices come in the
    order of their numbers, which may have gaps.
    """
    images, masks = _find_files(root, problems)
    for stem in masks.keys() - images.keys():
        problems.add("masks without an image", masks[stem])
    numbered: dict[str, dict[int, str]] = {}
    for stem in sorted(images):
        match = re.fullmatch(r"(.+?)_(\d+)", stem)
        if match is None:
            problems.add("images whose name does not end with the slice's number", images[stem])
        elif patients is not None and stem not in patients:
            problems.add("images that the index does not name", stem)
        else:
            slices = numbered.setdefault(match[1] if patients is None else patients[stem], {})
            number = int(match[2])
            if number in slices:
                problems.add("slices of the same number", f"{slices[number]} = {stem}")
            slices[number] = stem
    cases = []
    for patient, slices in numbered.items():
        stems = [slices[number] for number in sorted(slices)]
        lacking = [stem for stem in stems if stem not in masks]
        if 0 < len(lacking) < len(stems):
            for stem in lacking:
                problems.add("images without a mask", images[stem])
            continue
        files = tuple(images[stem] for stem in stems)
        labels = () if lacking else tuple(masks[stem] for stem in stems)
        cases.append(Case(patient, patient, LGG_CHANNELS, files, labels, tuple(sorted(slices))))
    return cases


def _find_files(root: Path, problems: Problems) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the images and the masks by the name of their slice."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    flat = (root / "images").is_dir()
    for folder in [root / "images", root / "masks"] if flat else [root]:
        if not folder.is_dir():
            continue
        for _, files in walk_files(folder, _EXTENSIONS):
            for file in files:
                is_mask = file.stem.endswith("_mask") or (flat and folder.name == "masks")
                kind = masks if is_mask else images
                stem = file.stem.removesuffix("_mask")
                if stem in kind:
                    problems.add("files of the same name", f"{kind[stem]} = {file}")
                kind[stem] = file
    return images, masks
