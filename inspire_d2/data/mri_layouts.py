"""Where each MRI data set keeps its volumes and labels, and which patient a case is of."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inspire_d2.data.problems import Problems
from inspire_d2.data.synthetic_manifest import check_complete
from inspire_d2.data.tables import read_table
from inspire_d2.errors import InputError, printable, warn

__all__ = ["LABEL_SETS", "MRI_LAYOUTS", "SKULL_STRIPPED", "Case", "NIFTI", "find_cases",
           "nifti_stem", "patient_of", "since_2023", "walk_files"]  # fmt: skip

MRI_LAYOUTS = ("brats", "atlas", "lgg", "folders")

# The label values that may stand together in a set; () where every whole number 1..255 may.
LABEL_SETS: dict[str, tuple[tuple[int, ...], ...]] = {
    "brats": ((1, 2, 4), (1, 2, 3)),  # enhancing tumour is 4 until 2021, 3 since 2023
    "atlas": ((1,),),
    "lgg": ((1,),),
    "folders": (),
}

# Whether all is 0 but the brain; what "folders" hold is not known, most that is shared is.
SKULL_STRIPPED = {"brats": True, "atlas": False, "lgg": False, "folders": True}

BRATS_CHANNELS = ("t1", "t1ce", "t2", "flair")
_BRATS_FILES = {
    **{"t1": "t1", "t1n": "t1", "t1ce": "t1ce", "t1c": "t1ce", "t1gd": "t1ce"},
    **{"t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair", "seg": "seg", "segm": "seg"},
}
_ATLAS_LABEL = "_label-L_desc-T1lesion_mask"

_SINCE_2023 = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d+")  # the last number is the time point
# Names of cases that say whose they are; without an index other cases are a patient each.
_PATIENTS = (
    re.compile(r"(sub-[^_]+)_.+"),  # BIDS
    _SINCE_2023,
    re.compile(r"(BraTS1[789]_.+)_\d+", re.IGNORECASE),
    re.compile(r"(UPENN-GBM-\d+)_\d+"),  # the last number is the time point
)


@dataclass(frozen=True)
class Case:
    """The files of one volume.

    ``images`` are NIfTI files, one per channel, or, where ``slices`` holds the slices' numbers,
    pictures, one per slice with all channels. ``labels`` is one NIfTI file, or a mask per slice, or
    empty where the case has none.
    """

    name: str
    patient: str
    channels: tuple[str, ...]
    images: tuple[Path, ...]
    labels: tuple[Path, ...] = ()
    slices: tuple[int, ...] = ()


def find_cases(
    layout: str,
    root: Path,
    problems: Problems,
    *,
    images: Path | None = None,
    labels: Path | None = None,
    index: Path | None = None,
    labelled: bool = True,
    channels: Sequence[str] | None = None,
    parted: bool = True,
) -> list[Case]:
    """List the cases of a data set, sorted by name.

    ``images`` and ``labels`` name the two folders of the layout "folders" (by default those in
    ``root``); ``index`` is a csv file with the columns name (of a case, for "lgg" of a slice) and
    patient (of "lgg" and "folders" by default index.csv in ``root``; not of "folders" that are not
    to be ``parted``, by patients). In the layout "folders", images whose names end in four digits
    are the channels of a case, but for a model of the ``channels`` "image" alone.
    Cases with missing files go to ``problems``, those without a label only where they must be
    ``labelled``. Folders of volumes that are no case of BraTS are told on stderr. Raises InputError
    when the layout's folders are not there.
    """
    for option, folder in (("--root", root), ("--images", images), ("--labels", labels)):
        if folder is not None and not os.path.isdir(folder):
            raise InputError(f"{option} {folder} is not a folder")
    check_complete(root)
    if (images or labels) and layout != "folders":
        raise InputError(f"--images and --labels belong to --layout folders, not to {layout}")
    root = Path(os.path.abspath(root))  # links inside it stay as they are named
    by_default = layout == "lgg" or (layout == "folders" and parted)  # LGG's slices need it
    if index is None and by_default and (root / "index.csv").is_file():
        index = root / "index.csv"
    patients = _read_patients(index) if index is not None else None
    if layout == "folders":
        from inspire_d2.data.mri_folders import find_in_folders, two_folders

        images, labels = two_folders(root, images, labels, labelled)
        numbered = list(channels or ()) != ["image"]
        cases = find_in_folders(images, labels, problems, numbered=numbered)
    elif layout == "lgg":
        from inspire_d2.data.mri_lgg import find_lgg  # it needs Case

        cases = find_lgg(root, patients, problems)
    else:
        cases = {"brats": _brats, "atlas": _atlas}[layout](root, problems)
    if layout != "lgg" and patients is not None:
        for case in cases:
            if case.name not in patients:
                problems.add("cases that the index does not name", case.name)
        cases = [replace(c, patient=patients[c.name]) for c in cases if c.name in patients]
    if not cases and not problems:
        problems.add("no cases", f"{images or root} holds none in the layout {layout}")
    complete = []
    for case in sorted(cases, key=lambda case: case.name):
        if labelled and not case.labels:
            problems.add("cases without a label file", case.name)
        elif re.search(r"^[.]|[/\\]", case.name):
            problems.add("cases whose name cannot be a file's", case.name)
        elif name := _not_utf8(case, images or root):
            problems.add("names that are not UTF-8", name)
        else:
            complete.append(case)
    return _without_twins(complete, problems)


def _not_utf8(case: Case, top: Path) -> str:
    """Return, as it can be printed, a name of a case below ``top`` that no json takes; else ""."""
    names = [case.name, *(os.path.relpath(path, top) for path in case.images)]
    return next((printable(name) for name in names if printable(name) != name), "")


def patient_of(case: str) -> str:
    """Return the patient that the name of a case tells: itself, but for BIDS' and BraTS' names."""
    for pattern in _PATIENTS:
        match = pattern.fullmatch(case)
        if match:
            return match[1]
    return case


def since_2023(case: str) -> bool:
    """Return whether a case is named as BraTS' are since 2023."""
    return _SINCE_2023.fullmatch(case) is not None


def walk_files(root: Path, extensions: tuple[str, ...]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder under ``root`` that holds files of these types, and them, sorted.

    Links to folders are followed, hidden files and folders left out.
    """
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found = [n for n in names if n.lower().endswith(extensions) and not n.startswith(".")]
        if found:
            yield Path(folder), [Path(folder) / name for name in sorted(found)]


NIFTI = (".nii", ".nii.gz")


def nifti_stem(path: Path) -> str:
    """Return a file's name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _brats(root: Path, problems: Problems) -> list[Case]:
    cases = []
    for folder, files in walk_files(root, NIFTI):
        found: dict[str, list[Path]] = {}
        others = []
        for file in files:
            part = _BRATS_FILES.get(re.split("[-_]", nifti_stem(file))[-1].lower())
            if part is None:
                others.append(file.name)
            else:
                found.setdefault(part, []).append(file)
        if not found:
            warn(
                f"{folder} is no case: none of its {len(files)} NIfTI files is named as one of "
                f"{', '.join(BRATS_CHANNELS)}"
            )
            continue
        usable = True
        for part in (*BRATS_CHANNELS, "seg"):
            paths = found.get(part, [])
            if len(paths) > 1:
                names = ", ".join(path.name for path in paths)
                problems.add(
                    f"cases with more than one file for {part}", f"{folder.name} ({names})"
                )
                usable = False
            elif not paths and part != "seg":
                there = f" (there is {', '.join(others)})" if others else ""
                problems.add(f"cases without {part}", folder.name + there)
                usable = False
        if usable:
            volumes = tuple(found[channel][0] for channel in BRATS_CHANNELS)
            name = folder.name
            label = tuple(found.get("seg", ()))
            cases.append(Case(name, patient_of(name), BRATS_CHANNELS, volumes, label))
    return cases


def _atlas(root: Path, problems: Problems) -> list[Case]:
    cases = []
    for _, files in walk_files(root, NIFTI):
        used: set[Path] = set()
        images = [file for file in files if nifti_stem(file).endswith("_T1w")]
        masks = [file for file in files if nifti_stem(file).endswith(_ATLAS_LABEL)]
        for image in images:
            entities = re.match(r"(sub-[^_]+)(_ses-[^_]+)?(_run-[^_]+)?_", image.name)
            if entities is None:
                problems.add("T1w images whose name does not begin with sub-", image)
                continue
            name = entities[0].rstrip("_")
            labels = [mask for mask in masks if mask.name.startswith(f"{name}_")]
            used.update(labels)
            if len(labels) > 1:
                problems.add(
                    "cases with more than one lesion mask",
                    f"{name} ({', '.join(mask.name for mask in labels)})",
                )
                continue
            cases.append(Case(name, entities[1], ("t1w",), (image,), tuple(labels)))
        for mask in masks:
            if mask not in used:
                problems.add("lesion masks without a T1w image", mask)
    return cases


def _read_patients(index: Path) -> dict[str, str]:
    """Read a csv file's columns name and patient."""
    patients: dict[str, str] = {}
    for row in read_table(index, "name", "patient"):
        name, patient = row["name"], row["patient"]
        if not patient:
            raise InputError(f"the index {index} names no patient for {name}")
        if patients.setdefault(name, patient) != patient:
            raise InputError(f"the index {index} names two patients for {name}")
    return patients


def _without_twins(cases: Sequence[Case], problems: Problems) -> list[Case]:
    """Report names that differ in upper and lower case only, or not at all; return the others."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.name.casefold(), []).append(case)
    for group in groups.values():
        if len(group) > 1:
            where = " = ".join(str(case.images[0]) for case in group)
            problems.add("cases of the same name", f"{group[0].name} ({where})")
    return [case for case in cases if len(groups[case.name.casefold()]) == 1]
