"""From folders of MRI to a prepared set: arrays that training maps into memory, and an index."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from inspire_d2.data.coco_json import check_writable, write_jsons
from inspire_d2.data.jobs import run_jobs
from inspire_d2.data.mri_index import MRI_FORMAT, array_problem, read_mri_index
from inspire_d2.data.mri_layouts import LABEL_SETS, SKULL_STRIPPED, Case, find_cases, since_2023
from inspire_d2.data.mri_splits import PatientSplit
from inspire_d2.data.mri_volume import read_case
from inspire_d2.data.mri_warnings import warn_of_differences, warn_of_skulls
from inspire_d2.data.problems import Problems
from inspire_d2.errors import InputError, first_few, printable

__all__ = ["prepare_mri"]

_OUTCOME = "cannot be used, no index was written"
Prepared = tuple[dict[str, Any] | None, list[tuple[str, str]]]  # an entry, or problems


def prepare_mri(
    layout: str,
    root: Path,
    split: PatientSplit,
    output: Path,
    *,
    images: Path | None = None,
    labels: Path | None = None,
    index: Path | None = None,
    axis: int = 2,
    skull_stripped: bool | None = None,
    label_values: Sequence[int] = (),
    labelled: bool = True,
    jobs: int = 1,
) -> dict[str, dict[str, int]]:
    """Prepare the cases of a set and write ``output``/PART.json for each part of ``split``.

    A case that is there already, of the same files, ``axis`` and ``skull_stripped`` (see
    :func:`load_case`; by default the layout's), is left as it is; so an interrupted run goes on
    where it was. ``label_values`` are those that may be in a label, by default the layout's.
    ``images``, ``labels``, ``index`` and ``labelled`` are those of
    :func:`find_cases`; ``jobs`` processes work, the result does not depend on their number.
    Only one run at a time may write to an ``output``.

    Returns the counts of each part (patients, cases, slices, with label, foreground slices). Raises
    InputError, having written no index, with all that is wrong with the files or the split.
    Warnings and a progress bar go to stderr.
    """
    if jobs < 1:
        raise InputError(f"--jobs {jobs} must be at least 1")
    if axis not in (0, 1, 2) or (layout == "lgg" and axis != 2):
        raise InputError(f"--axis {axis} is not 0, 1 or 2 (lgg: 2, its files are slices)")
    check_writable(output)
    problems = Problems(root)
    cases = find_cases(
        layout, root, problems, images=images, labels=labels, index=index, labelled=labelled
    )
    if not cases:
        problems.raise_if_any(_OUTCOME)
    try:
        parts = split.divide(cases)
    except InputError as error:
        if problems:  # perhaps for want of the cases that have them
            problems.add("the split", error)
            problems.raise_if_any(_OUTCOME)
        raise
    _check_other_indexes(output, parts)
    folder = output / "cases"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".*.part"):  # by a run that was killed
            left_over.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error
    stripped = SKULL_STRIPPED[layout] if skull_stripped is None else skull_stripped
    results = run_jobs(
        partial(_prepare_case, folder=folder, axis=axis, skull_stripped=stripped),
        cases,
        jobs,
        unit="case",
        doing="preparing",
        after_a_death="what is finished is kept, try a smaller --jobs",
    )
    entries: dict[str, dict[str, Any]] = {}
    for case, (entry, found) in zip(cases, results, strict=True):
        for problem in found:
            problems.add(*problem)
        if entry is not None:
            entries[case.name] = _located(entry, case, root, output)
    sets = (tuple(sorted(set(label_values))),) if label_values else LABEL_SETS[layout]
    if all(since_2023(case.name) for case in cases):  # where no label tells them apart
        sets = sorted(sets, key=lambda allowed: 4 in allowed)
    values = _label_values(entries, sets, problems)
    problems.raise_if_any(_OUTCOME)
    warn_of_differences(entries)
    if layout == "folders" and skull_stripped is None:
        warn_of_skulls(entries)
    about = {
        "format": MRI_FORMAT,
        "layout": layout,
        "split": split.describe(),
        "channels": list(cases[0].channels),
        "labels": values,
    }
    contents = {
        name: {**about, "cases": [entries[case.name] for case in members]}
        for name, members in parts.items()
    }
    write_jsons(output, {f"{name}.json": content for name, content in contents.items()})
    return {name: _count(content["cases"]) for name, content in contents.items()}


def _check_other_indexes(output: Path, parts: dict[str, list[Case]]) -> None:
    """Raise InputError if a patient is already in an index of the folder that stays as it is."""
    for file in sorted(output.glob("*.json")) if output.is_dir() else ():
        if file.stem in parts:
            continue
        try:
            theirs = {entry["patient"] for entry in read_mri_index(file)["cases"]}
        except InputError:
            continue  # a file of someone else's
        ours = {case.patient for members in parts.values() for case in members}
        both = sorted(ours & theirs)
        if both:
            raise InputError(
                f"{len(both)} patients are in {file} too: {first_few(both)}; delete that index, or"
                " give another --output"
            )


def _prepare_case(case: Case, folder: Path, axis: int, skull_stripped: bool) -> Prepared:
    """Write the arrays and then the json of a case, unless they are there already."""
    try:
        digest = _digest(case, axis, skull_stripped)
    except OSError as error:
        why = f"{error.filename or case.name} ({error.strerror or error})"
        return None, [("files that cannot be read", why)]
    done = _finished(folder, case, digest)
    if done is not None:
        return done, []
    prepared, problems = read_case(case, axis, skull_stripped=skull_stripped)
    if prepared is None:
        return None, problems
    entry = {
        "case": case.name,
        "patient": case.patient,
        "image": f"cases/{case.name}.image.npy",
        "label": None if prepared.label is None else f"cases/{case.name}.label.npy",
        **prepared.entry,
        "digest": digest,
    }
    record = folder / f"{case.name}.json"
    try:
        record.unlink(missing_ok=True)  # a case is done when its json is there
        with _written(folder / f"{case.name}.image.npy") as file:
            np.save(file, prepared.image)
        if prepared.label is None:
            (folder / f"{case.name}.label.npy").unlink(missing_ok=True)
        else:
            with _written(folder / f"{case.name}.label.npy") as file:
                np.save(file, prepared.label)
        with _written(record) as file:
            file.write(json.dumps(entry, separators=(",", ":")).encode())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}; finished cases are kept"
        ) from error
    return entry, []


def _digest(case: Case, axis: int, skull_stripped: bool) -> str:
    """Return the sha256 of all that a prepared case depends on."""
    options = [MRI_FORMAT, axis, skull_stripped, case.channels, case.slices]
    whole = hashlib.sha256(json.dumps(options).encode())
    for kind in (case.images, case.labels):
        for path in kind:
            one = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    one.update(block)
            whole.update(one.digest())
        whole.update(b"\n")
    return f"sha256:{whole.hexdigest()}"


def _finished(folder: Path, case: Case, digest: str) -> dict[str, Any] | None:
    """Return the entry of a case that was prepared from the same files and has its arrays."""
    try:
        entry = json.loads((folder / f"{case.name}.json").read_bytes())
        same = entry["digest"] == digest
        if same and array_problem(entry, folder.parent, len(case.channels)) is None:
            return entry
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


@contextlib.contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place, and move it there when it is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _located(entry: dict[str, Any], case: Case, root: Path, output: Path) -> dict[str, Any]:
    """Return an entry as of today's names: the files may have been moved since it was made."""
    entry = {**entry, "patient": case.patient}
    if not case.slices:
        reference = os.path.abspath(case.images[0])
        folders = [(os.path.abspath(p), os.path.realpath(p)) for p in (root, output)]
        # Below each other, by their names and in truth: then the two can be moved together.
        if all(out.startswith(os.path.join(top, "")) for top, out in zip(*folders, strict=True)):
            reference = Path(os.path.relpath(reference, folders[1][0])).as_posix()
        if printable(reference) != reference:
            raise InputError(
                f"{printable(root)} is not UTF-8, and cannot be named in a json: rename it, or give"
                " an --output below it"
            )
        entry["reference"] = reference
    return entry


def _label_values(
    entries: dict[str, dict[str, Any]], sets: Sequence[tuple[int, ...]], problems: Problems
) -> list[int]:
    """Return the set's label values; what fits none of the allowed ``sets`` goes to problems."""
    found: dict[int, list[str]] = {}
    for name, entry in entries.items():
        for value in map(int, entry["voxels"]):
            found.setdefault(value, []).append(name)
    if not sets:
        return sorted(found)
    for allowed in sets:
        if found.keys() <= set(allowed):
            return list(allowed)
    # The one that most cases fit; what is not in it is named.
    allowed = max(sets, key=lambda s: sum(len(found.get(value, ())) for value in s))
    for value in sorted(found.keys() - set(allowed)):
        for name in found[value]:
            shown = ", ".join(map(str, allowed))
            problems.add(f"labels outside the set ({shown})", f"{name} ({value})")
    return list(allowed)


def _count(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
    sums = [np.sum(list(entry["voxels"].values()), axis=0) for entry in entries if entry["voxels"]]
    depths = [stop - start for e in entries for start, stop in [e["crop"][e["axis"]]]]
    return {
        "patients": len({entry["patient"] for entry in entries}),
        "cases": len(entries),
        "labelled": sum(entry["label"] is not None for entry in entries),
        "slices": sum(depths),
        "foreground_slices": sum(int(np.count_nonzero(total)) for total in sums),
    }
