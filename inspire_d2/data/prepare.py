"""From folders of images and masks to COCO jsons."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inspire_d2.data.attributes import GROUP_COLUMNS, leak_warnings, read_index
from inspire_d2.data.coco_json import check_writable, write_jsons
from inspire_d2.data.instances import CONNECTIVITY, Reading, read_pair
from inspire_d2.data.jobs import run_jobs
from inspire_d2.data.layouts import Pair, find_pairs
from inspire_d2.data.masks import THRESHOLD
from inspire_d2.data.problems import Problems
from inspire_d2.data.splits import ColumnSplit, ListSplit, OwnSplit, RatioSplit, Split
from inspire_d2.errors import InputError, first_few, printable, warn

__all__ = ["LICENCES", "prepare_polyps"]

LICENCES = {
    "kvasir": ("research and educational use, see source", "https://datasets.simula.no/kvasir-seg"),
    "cvc-clinicdb": ("see source", "https://polyp.grand-challenge.org/CVCClinicDB"),
    "polypgen": ("CC BY 4.0", "https://doi.org/10.7303/syn26376615"),
    "pranet": ("those of its sources", "https://github.com/DengPing-Fan/PraNet"),
    "folders": ("unknown", ""),
}


def prepare_polyps(
    layout: str,
    root: Path,
    split: Split,
    output: Path,
    *,
    images: Path | None = None,
    masks: Path | None = None,
    index: Path | None = None,
    min_area: int = 30,
    jobs: int = 1,
) -> dict[str, dict[str, int]]:
    """Convert a data set and write ``output``/PART.json for each part of ``split``.

    ``index`` is a csv file with the columns name and, for instance, centre; by default index.csv
    in ``root``, where there is one. Components of less than ``min_area`` pixels are dropped;
    ``jobs`` processes read the files, the result does not depend on their number.
    Returns the counts of each part (images, positives, negatives, polyps, specks). Raises
    InputError, having written nothing, with all that is wrong with the files, the split, or the
    output folder. Warnings and a progress bar go to stderr.
    """
    if min_area < 1 or jobs < 1:
        raise InputError(f"--min-area {min_area} and --jobs {jobs} must be at least 1")
    check_writable(output)
    image_root = _image_root(root, output)
    problems = Problems(root)
    pairs = find_pairs(layout, root, problems, images, masks)
    if len({pair.part == "train" for pair in pairs}) > 1 and not isinstance(split, OwnSplit):
        raise InputError(
            f"{root} holds training and test sets: take --own-split, or give one of them as --root"
        )
    pairs = _with_index(pairs, root, index, needed=isinstance(split, ColumnSplit))
    parts = split.divide(pairs, problems)
    readings = _read_all(pairs, min_area, jobs)
    for pair in pairs:
        if readings[pair.name].problem:
            problems.add(*readings[pair.name].problem)
    problems.raise_if_any()
    _warn_of_masks(readings)

    if isinstance(split, RatioSplit | ListSplit | ColumnSplit):
        left_out = len(pairs) - sum(len(part) for part in parts.values())
        warnings = leak_warnings(parts) + _copy_warnings(parts, readings)
        if layout == "cvc-clinicdb" and isinstance(split, RatioSplit):
            warnings += _cvc_warnings(pairs)
        if left_out:
            warnings.append(f"{left_out} images are in neither list and left out")
        for sentence in warnings:
            warn(sentence)
    about = {
        "description": f"Polyps as instances, from {layout}",
        "layout": layout,
        "image_root": image_root,
        "split": split.describe(),
        "min_area": min_area,
        "threshold": THRESHOLD,
        "connectivity": CONNECTIVITY,
    }
    contents = _to_coco(pairs, parts, readings, about)
    write_jsons(output, {f"{name}.json": content for name, content in contents.items()})
    _warn_of_other_splits(output, contents)
    return {name: content["info"]["counts"] for name, content in contents.items()}


def _with_index(pairs: list[Pair], root: Path, index: Path | None, needed: bool) -> list[Pair]:
    file = index or root / "index.csv"
    if index is None and not os.path.isfile(file):
        return pairs
    try:
        known, lacking = read_index(pairs, file)
    except InputError as error:
        if index is not None or needed:
            raise
        warn(f"{error}; it is not used")
        return pairs
    if lacking and not needed:
        warn(f"the index {file} lacks {len(lacking)} images: {first_few(lacking)}")
    return known


def _warn_of_masks(readings: Mapping[str, Reading]) -> None:
    """Warn of masks in their transparency, and where nearly all are white in more than half."""
    if in_alpha := [name for name, reading in readings.items() if reading.in_alpha]:
        warn(
            f"{len(in_alpha)} masks are of one colour and differ in their transparency alone, which"
            f" is not read: {first_few(in_alpha)}; save them as 0 and 255"
        )
    white = [
        sum(one["area"] for one in reading.instances) > reading.width * reading.height / 2
        for reading in readings.values()
        if reading.instances
    ]
    if sum(white) > 0.9 * len(white):
        warn(
            f"{sum(white)} of {len(white)} masks are white in more than half of their pixels: white"
            " is taken for polyp; where it is the background, invert them"
        )


def _copy_warnings(
    parts: Mapping[str, Sequence[Pair]], readings: Mapping[str, Reading]
) -> list[str]:
    """Tell of images that several parts have, under other names."""
    where: dict[bytes, dict[str, str]] = {}
    for part, pairs in parts.items():
        for pair in pairs:
            where.setdefault(readings[pair.name].image_digest, {})[part] = pair.name
    copies = [" = ".join(names.values()) for names in where.values() if len(names) > 1]
    if not copies:
        return []
    return [
        f"{len(copies)} images are in more than one part, as copies that are equal byte for byte"
        f" ({first_few(copies)}): scores are then of what was trained on; delete the copies"
    ]


def _cvc_warnings(pairs: Sequence[Pair]) -> list[str]:
    if any(pair.attributes.get("sequence") for pair in pairs):
        return []
    return [
        "CVC-ClinicDB's 612 images are frames of 29 sequences, which a random split parts: scores"
        " are then of what was trained on. Make an index of name and sequence, and give --index"
        " FILE --split-column sequence --val-values VALUE ..."
    ]


def _read_all(pairs: Sequence[Pair], min_area: int, jobs: int) -> dict[str, Reading]:
    """Read all pairs in ``jobs`` processes; return the readings by name."""
    readings = run_jobs(
        partial(_read, min_area=min_area),
        pairs,
        jobs,
        unit="image",
        doing="reading",
        after_a_death="nothing was written, try --jobs 1",
        chunk=8,
    )
    return {pair.name: reading for pair, reading in zip(pairs, readings, strict=True)}


def _read(pair: Pair, min_area: int) -> Reading:
    return read_pair(pair.image, pair.mask, min_area)


def _warn_of_other_splits(output: Path, contents: Mapping[str, dict[str, Any]]) -> None:
    """Tell which jsons of an earlier split stay in the folder and share images with new ones."""
    for file in sorted(output.glob("*.json")):
        if file.stem in contents:
            continue
        try:
            theirs = json.loads(file.read_text(encoding="utf-8"))
            root, rule = theirs["info"]["image_root"], theirs["info"]["split"]["rule"]
            names = {image["file_name"] for image in theirs["images"]}
        except (OSError, ValueError, LookupError, TypeError):
            continue  # a file of someone else's
        shared = [
            f"{len(both)} of {part}.json"
            for part, content in contents.items()
            if root == content["info"]["image_root"]
            and (both := names & {image["file_name"] for image in content["images"]})
        ]
        if shared:
            warn(
                f"{file}, of an earlier split ({rule}), stays and has images that are in the new"
                f" jsons too ({', '.join(shared)}): delete it, or do not train or score on both"
            )


def _image_root(root: Path, output: Path) -> str:
    """Return the images' root relative to the json's folder, or absolute if they share only "/"."""
    root, output = Path(os.path.realpath(root)), Path(os.path.realpath(output))
    common = Path(os.path.commonpath([root, output]))
    shared = common != Path(common.anchor)
    found = Path(os.path.relpath(root, output)).as_posix() if shared else str(root)
    if printable(found) != found:
        raise InputError(
            f"{printable(root)} is not UTF-8, and cannot be named in a json: rename it, or give an"
            " --output below it"
        )
    return found


def _to_coco(
    pairs: Sequence[Pair],
    parts: dict[str, list[Pair]],
    readings: dict[str, Reading],
    about: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """Build the content of each json; ids count through the whole set, whatever the split."""
    image_id = {pair.name: i for i, pair in enumerate(pairs, 1)}
    first_id, annotations_so_far = {}, 1
    for pair in pairs:
        first_id[pair.name] = annotations_so_far
        annotations_so_far += len(readings[pair.name].instances)
    licence, url = LICENCES[about["layout"]]
    contents = {}
    for part, members in parts.items():
        images, annotations, digest, specks = [], [], hashlib.sha256(), 0
        for pair in members:
            reading = readings[pair.name]
            image = {
                "id": image_id[pair.name],
                "file_name": pair.file_name,
                "width": reading.width,
                "height": reading.height,
                "license": 1,
            }
            known = {c: pair.attributes[c] for c in GROUP_COLUMNS if pair.attributes.get(c)}
            images.append({**image, **known})
            for number, instance in enumerate(reading.instances, first_id[pair.name]):
                annotations.append({"id": number, "image_id": image["id"], **instance})
            digest.update(f"{pair.name}\0{reading.digest}\n".encode())
            specks += reading.specks
        positives = len({annotation["image_id"] for annotation in annotations})
        counts = {
            "images": len(images),
            "positives": positives,
            "negatives": len(images) - positives,
            "polyps": len(annotations),
            "dropped_specks": specks,
        }
        contents[part] = {
            "info": {**about, "counts": counts, "digest": f"sha256:{digest.hexdigest()}"},
            "licenses": [{"id": 1, "name": licence, "url": url}],
            "categories": [{"id": 1, "name": "polyp", "supercategory": "polyp"}],
            "images": images,
            "annotations": annotations,
        }
    return contents
