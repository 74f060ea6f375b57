#!/usr/bin/env python
"""Segment volumes of MRI with a trained model, from their files to NIfTI label maps.

    python tools/predict_mri.py --run runs/brats --layout brats --root new_cases --output found
    python tools/predict_mri.py --run runs/atlas --layout folders --images new/t1 --output found

Takes the run's config.yaml and newest checkpoint, and volumes in one of the layouts of
datasets/prepare_mri.py, which need no label files. Volumes that lie otherwise in their arrays than
those that the model was trained on are turned for it, and the label maps back. Writes to --output

    CASE.nii.gz         the label map, with the affine and the header of the case's first image, and
                        as labels those of the set that the model was trained on
    CASE.png            slices with what was found in them, the patient's right on the left
    predictions.csv     a line a case and region, with all that lies in the region: voxels,
                        millilitres, connected parts; seconds are the case's

A case that cannot be used is told at the end, the others are done; then the exit code is 2.
"""

import argparse
import resource
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error, first_few, warn

if TYPE_CHECKING:
    from inspire_d2.evaluation.region_table import RegionTable

LAYOUTS = ("brats", "atlas", "lgg", "folders")
LESS_MEMORY = "lower model.slices_per_batch, or set model.window=[192,192]"


def main(argv: list[str] | None = None) -> None:
    """Predict; exits with 2 on wrong input, 130 on Ctrl-C, with what is finished in place."""
    args = parse(argv)
    try:
        with exit_on_input_error():
            predict_all(args)
    except KeyboardInterrupt:
        print("\ninterrupted; what is finished stays, --skip-existing goes on", file=sys.stderr)
        sys.exit(130)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="output folder of train_net.py")
    add("--layout", choices=LAYOUTS, required=True)
    add("--root", type=Path, help="the cases' folder")
    add("--images", type=Path, help="layout folders: the NIfTI images, if not ROOT/images")
    add("--axis", type=int, choices=(0, 1, 2),
        help="of the slices (default: as the training set's)")  # fmt: skip
    add("--skull-stripped", action=argparse.BooleanOptionalAction,
        help="as for prepare_mri.py (default: as the training set)")  # fmt: skip
    add("--labels", type=int, nargs="+", metavar="VALUE",
        help="label values to write (default: those of the training set)")  # fmt: skip
    add("--threshold", type=float, default=0.5, help="least probability (default 0.5)")
    add("--output", type=Path, required=True)
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--force", action="store_true", help="write over files that are there")
    there.add_argument("--skip-existing", action="store_true", help="leave out what is done")
    add("opts", nargs="*", metavar="KEY=VALUE",
        help="overrides of the config, as model.window=[192,192] model.mirror=True")  # fmt: skip
    args = parser.parse_args(argv)
    if args.root is None and args.images is None:
        parser.error("--root is missing")
    return args


def predict_all(args: argparse.Namespace) -> None:
    """Do it; raises InputError at the end where there are cases that could not be used."""
    from detectron2.config import instantiate

    from inspire_d2.data.mri_layouts import find_cases
    from inspire_d2.data.problems import Problems
    from inspire_d2.engine.failures import tells_of_memory
    from inspire_d2.engine.trained import load_trained
    from inspire_d2.evaluation.region_table import RegionTable

    if not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold {args.threshold} is not in 0..1.")
    root = args.root or args.images.parent
    cfg, model = load_trained(args.run, args.opts)
    about = training_set(cfg, args)
    problems = Problems(root)
    cases = find_cases(
        args.layout,
        root,
        problems,
        images=args.images,
        labelled=False,
        channels=about["channels"],
        parted=False,
    )
    if not cases:
        problems.raise_if_any()
    cases = remaining(cases, args)
    mapper = instantiate(cfg.dataloader.test.mapper)
    table = RegionTable(args.output / "predictions.csv", replace_others=args.force)
    for number, case in enumerate(cases, 1):
        start = time.monotonic()
        try:
            found = predict(case, model, mapper, about, table, args)
            told = ", ".join(f"{row['region']} {size(row)}" for row in found)
        except InputError as error:
            problems.add("cases that cannot be used", error)
            told = "not done, see below"
        except Exception as error:  # torch.OutOfMemoryError is one; the other cases can be done
            if tells_of_memory(error):
                problems.add("cases for which memory ran out", f"{case.name} ({LESS_MEMORY})")
                told = "not done, memory ran out"
            else:
                traceback.print_exc()
                kind = type(error).__name__
                problems.add("cases that failed, see above", f"{case.name} ({kind}: {error})")
                told = "not done, it failed"
        seconds = time.monotonic() - start
        left = seconds * (len(cases) - number) / 60
        print(
            f"{case.name} ({number} of {len(cases)}): {told}; {seconds:.1f} s, "
            f"about {left:.0f} min left",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
    print(f"label maps written to {args.output}; peak memory {peak:.2f} GB")
    problems.raise_if_any("was predicted in part")


def size(row: dict[str, Any]) -> str:
    """Return how large a region is; where the size of a voxel is not known, in voxels."""
    return f"{row['ml']} ml" if row["ml"] else f"{row['voxels']} voxels"


def remaining(cases: list[Any], args: argparse.Namespace) -> list[Any]:
    """Return the cases to predict; raises InputError where one's file is there already."""
    there = [case.name for case in cases if path_of(case, args).exists()]
    for case in cases:
        inputs = (*case.images, *case.labels)
        if case.name in there and any(path_of(case, args).samefile(p) for p in inputs):
            raise InputError(
                f"--output {args.output} is where the images or their labels are: {case.name} "
                "would be written over. Name another folder."
            )
    if args.skip_existing:
        return [case for case in cases if case.name not in there]
    if there and not args.force:
        raise InputError(
            f"{args.output} holds {len(there)} of the files already ({first_few(there, 3)}): take "
            "--force to write over them, --skip-existing to keep them, or another --output."
        )
    return cases


def path_of(case: Any, args: argparse.Namespace) -> Path:
    """Return where a case's label map goes."""
    return args.output / f"{case.name}.nii.gz"


def training_set(cfg: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Return labels, channels, axis and the like of the set that the run was trained on.

    What the command line names counts; the set need not be there where it names all.
    """
    import numpy as np
    from omegaconf import OmegaConf

    from inspire_d2.data.mri import mri_dataset
    from inspire_d2.data.mri_orientation import common_orientation, slice_direction
    from inspire_d2.data.mri_warnings import pixel_size
    from inspire_d2.data.regions import paint

    node = cfg.dataloader.train.dataset
    regions = OmegaConf.select(cfg, "model.sem_seg_head.loss.regions")
    if regions is None:
        raise InputError(
            f"the model of {args.run} segments no volumes (it has no regions): use "
            "tools/predict.py."
        )
    try:
        items = mri_dataset(node.name, node.get("index"))
    except InputError as error:
        if None in (args.labels, args.axis, args.skull_stripped):
            raise InputError(
                f"the set that {args.run} was trained on cannot be read ({error}): name --labels, "
                "--axis and --skull-stripped or --no-skull-stripped, which it would tell."
            ) from error
        items = [{"channels": None, "reference": None, "oriented": False}]
        items[0] |= {key: getattr(args, key) for key in ("labels", "axis", "skull_stripped")}
    item = items[0]
    sizes = [pixel_size(item) for item in items if item["reference"]]
    labels = item["labels"] if args.labels is None else args.labels
    regions = {name: list(values) for name, values in regions.items()}
    exclusive = bool(OmegaConf.select(cfg, "model.sem_seg_head.loss.exclusive"))
    nothing = np.zeros((len(regions), 0, 0, 0))
    paint(nothing, regions, labels, args.threshold, exclusive=exclusive)  # raises
    along = slice_direction(item) if args.axis is None else None
    return {
        "labels": labels,
        "axis": item["axis"] if args.axis is None else args.axis,
        "skull_stripped": (
            item["skull_stripped"] if args.skull_stripped is None else args.skull_stripped
        ),
        "pixels": (min(sizes), max(sizes)) if sizes else None,
        "along": along,
        "orientation": common_orientation(items),
        "channels": item["channels"],
        "regions": regions,
        "exclusive": exclusive,
    }


def predict(
    case: Any,
    model: Any,
    mapper: Any,
    about: dict[str, Any],
    table: "RegionTable",
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Segment one case, draw and write it; return what the table says of each region.

    Raises:
        InputError: its files cannot be used, or it has other channels than the model's set.
    """
    from inspire_d2.data.mri import mri_item
    from inspire_d2.data.mri_orientation import DIRECTIONS, Turn, orientation, slice_direction
    from inspire_d2.data.mri_volume import load_case
    from inspire_d2.data.mri_warnings import pixel_size, sizes_differ
    from inspire_d2.data.nifti import write_label_map
    from inspire_d2.data.regions import paint
    from inspire_d2.evaluation.region_table import measure

    wanted = about["channels"] or case.channels
    # A channel that has no name of its own is of the model's only one.
    unnamed = len(wanted) == len(case.channels) == 1 and case.channels[0] in ("image", "0000")
    if list(case.channels) != list(wanted) and not unnamed:
        raise InputError(
            f"{case.name} has the channels {', '.join(case.channels)}, the model was trained on "
            f"{', '.join(wanted)}."
        )
    start = time.monotonic()
    # Where there are labels, a crop to them too would tell the model where they are.
    loaded = load_case(
        replace(case, labels=()), about["axis"], skull_stripped=about["skull_stripped"]
    )
    pixels = pixel_size(loaded.entry)
    if loaded.entry["reference"] and about["pixels"]:
        least, most = about["pixels"]
        if sizes_differ(pixels, min(max(pixels, least), most)):
            warn(
                f"{case.name} has pixels of {pixels:.3g} mm, the model was trained on some of "
                f"{least:.3g} to {most:.3g} mm: nothing is resampled, expect worse results"
            )
    along = slice_direction(loaded.entry)
    if None not in (along, about["along"]) and along != about["along"]:
        theirs, ours = DIRECTIONS[along], DIRECTIONS[about["along"]]
        raise InputError(
            f"the slices of {case.name} along axis {about['axis']} go {theirs}, those that the "
            f"model was trained on {ours}: name the --axis that does."
        )
    turn = Turn.between(orientation(loaded.entry), about["orientation"])
    image = turn.apply(loaded.image)
    entry = {**loaded.entry, "image": image, "label": None}
    size = dict(zip(("height", "width"), image.shape[-2:], strict=True))
    item = mapper(mri_item(entry, about["labels"], case.channels) | size)
    label_map = turn.undo(
        paint(
            model([item])[0]["sem_seg"],
            about["regions"],
            about["labels"],
            args.threshold,
            exclusive=about["exclusive"],
        )
    )
    draw(loaded, label_map, about, args.output / f"{case.name}.png")
    spacing = loaded.entry["spacing"] if loaded.entry["reference"] else None
    found = measure(label_map, about["regions"], spacing)
    seconds = f"{time.monotonic() - start:.1f}"
    table.put(case.name, [row | {"seconds": seconds} for row in found])
    # Last: with it, --skip-existing takes the case as done.
    write_label_map(loaded.entry, label_map, path_of(case, args))
    return found


def draw(loaded: Any, label_map: Any, about: dict[str, Any], path: Path) -> None:
    """Write a sheet of slices; pictures lie as they do in their files, volumes as in a clinic."""
    import numpy as np

    from inspire_d2.data.images import write_image
    from inspire_d2.data.regions import region_labels
    from inspire_d2.visualization.slices import radiological, slice_sheet

    entry, axis = loaded.entry, loaded.entry["axis"]
    spacing = [mm for number, mm in enumerate(entry["spacing"]) if number != axis]
    turn = (False, False, False)
    if entry["reference"] is not None:
        turn = radiological(np.asarray(entry["affine"]), axis)
    names = {
        value: name for name, value in region_labels(about["regions"], about["labels"]).items()
    }
    # The last channel, for brain tumours FLAIR, shows most of what is not healthy. Around a brain
    # without its skull it is 0, which is the brain's mean.
    image = loaded.image[:, -1]
    image = np.where(image == 0, image.min(), image)
    first = entry["crop"][axis][0]
    sheet = slice_sheet(image, label_map, spacing, names, turn=turn, first=first)
    write_image(path, sheet)


if __name__ == "__main__":
    main()
