"""The layout "folders": volumes in one folder, label maps in another, as nnU-Net keeps them."""

import os
import re
from pathlib import Path

from inspire_d2.data.mri_layouts import NIFTI, Case, nifti_stem, patient_of
from inspire_d2.data.problems import Problems
from inspire_d2.errors import InputError

__all__ = ["find_in_folders", "two_folders"]

_LABEL_SUFFIXES = ("", "_seg", "_label", "_mask")


def two_folders(
    root: Path, images: Path | None, labels: Path | None, labelled: bool
) -> tuple[Path, Path | None]:
    """Return the folders of images and of labels, None where there is none and need not be.

    Raises:
        InputError: the first is not there, or the second where cases must be ``labelled``; or both
            are one.
    """
    given = images is not None
    images = images or root / "images"
    if labels is None and not given and (root / "labels").is_dir():
        labels = root / "labels"
    if not images.is_dir() or (labels is None and labelled):
        wanted = "folders images and labels: give both of them"
        if not labelled:
            wanted = "folder images: name it with --images"
        raise InputError(f"{root} does not hold the {wanted}")
    if labels is not None and images.resolve() == labels.resolve():
        raise InputError(f"--images and --labels are the same folder, {images}")
    return (
        Path(os.path.abspath(images)),
        None if labels is None else Path(os.path.abspath(labels)),
    )


def find_in_folders(
    images: Path, labels: Path | None, problems: Problems, *, numbered: bool = True
) -> list[Case]:
    """Match the files of two folders; nnU-Net's _0000, _0001 ... are the channels of a case.

    Cases that are numbered so themselves are told from them by their labels, which have the number
    too, by there being no _0000, or by channels not being ``numbered``.
    """
    label_files = _list_nifti(labels) if labels is not None else []
    labelled = {
        nifti_stem(file).removesuffix(suffix) for file in label_files for suffix in _LABEL_SUFFIXES
    }
    files = _list_nifti(images)
    stems = {nifti_stem(file) for file in files}
    volumes: dict[str, dict[str, Path]] = {}
    for file in files:
        stem = nifti_stem(file)
        match = re.fullmatch(r"(.+)_(\d{4})", stem)
        if match and (not numbered or stem in labelled or f"{match[1]}_0000" not in stems):
            match = None
        name, channel = (match[1], match[2]) if match else (stem, "image")
        if channel in volumes.setdefault(name, {}):
            problems.add("cases with more than one file for a channel", file.name)
        volumes[name][channel] = file
    label_of: dict[str, list[Path]] = {}
    for file in label_files:
        stems = (nifti_stem(file).removesuffix(suffix) for suffix in _LABEL_SUFFIXES)
        name = next((stem for stem in stems if stem in volumes), None)
        if name is None:
            problems.add("labels without an image", file.name)
        else:
            label_of.setdefault(name, []).append(file)
    wanted = sorted({channel for channels in volumes.values() for channel in channels})
    cases = []
    for name, channels in volumes.items():
        missing = [channel for channel in wanted if channel not in channels]
        found = label_of.get(name, [])
        if missing:
            problems.add("cases that lack channels of others", f"{name} ({', '.join(missing)})")
        elif len(found) > 1:
            both = ", ".join(file.name for file in found)
            problems.add("cases with more than one label file", f"{name} ({both})")
        else:
            paths = tuple(channels[channel] for channel in wanted)
            cases.append(Case(name, patient_of(name), tuple(wanted), paths, tuple(found)))
    return cases


def _list_nifti(folder: Path) -> list[Path]:
    names = sorted(os.listdir(folder))
    return [folder / n for n in names if n.lower().endswith(NIFTI) and not n.startswith(".")]
