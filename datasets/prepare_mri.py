"""Turn volumes of brain MRI and their labels into arrays and an index for training and evaluation.

python datasets/prepare_mri.py --layout brats --root datasets/brats --val-ratio 0.2 --jobs 8
python datasets/prepare_mri.py --layout atlas --root datasets/atlas --val-list val_patients.txt
python datasets/prepare_mri.py --layout lgg   --root datasets/lgg   --val-ratio 0.2
python datasets/prepare_mri.py --layout folders --images mine/images --labels mine/labels --all x

datasets/README.md describes the data sets. Finished cases are kept whatever happens, and the same
command goes on from there. Exit codes: 0, 2 (wrong input, no index was written), 130 (interrupted).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where it is not installed

LAYOUTS = ("brats", "atlas", "lgg", "folders")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 where options do not go together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--layout", required=True, choices=LAYOUTS)
    add("--root", type=Path, help="the data set's folder")
    add("--images", type=Path, help="layout folders: the NIfTI images, if not ROOT/images")
    add("--labels", type=Path, help="layout folders: the label files, if not ROOT/labels")
    add("--index", type=Path,
        help="csv with name and patient (lgg, folders: by default ROOT/index.csv)")  # fmt: skip
    add("--output", type=Path, help="where the prepared set goes (default: ROOT/prepared)")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--val-ratio", type=float, help="share of the patients for val.json, e.g. 0.2")
    how.add_argument("--val-list", type=Path, help="the patients for val.json, one per line")
    how.add_argument("--all", metavar="NAME", help="everything into NAME.json")
    add("--seed", type=int, help="of --val-ratio (default 0)")
    add("--axis", type=int, default=2, help="axis of the array to slice along (2: mostly axial)")
    add("--skull-stripped", action=argparse.BooleanOptionalAction,
        help="whether all but the brain is 0, and does not count in the normalisation (default: "
        "brats and folders yes, atlas and lgg no)")  # fmt: skip
    add("--label-values", type=int, nargs="+", metavar="VALUE", default=(),
        help="those that labels may hold (default: the layout's; folders: any)")  # fmt: skip
    add("--allow-missing-labels", action="store_true", help="for cases to predict alone")
    add("--jobs", type=int, default=1, help="processes, each with one volume (default 1)")
    args = parser.parse_args(arguments)
    if args.seed is not None and args.val_ratio is None:
        parser.error("--seed belongs to --val-ratio")
    if any(not 1 <= value <= 255 for value in args.label_values):
        parser.error("--label-values lie between 1 and 255")
    if args.root is None and args.images is None:
        parser.error("--root is missing")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the data set that the command line describes and print what came of it."""
    args = parse(arguments)
    from inspire_d2.errors import InputError, exit_on_input_error, printable

    with exit_on_input_error():
        try:  # takes seconds: not before the options are right
            from inspire_d2.data import mri_prepare, mri_splits
        except ModuleNotFoundError as error:
            if error.name != "nibabel":
                raise
            raise InputError("nibabel is not installed: pip install .[medical]") from error
        if args.val_ratio is not None:
            split = mri_splits.PatientRatio(args.val_ratio, args.seed or 0)
        elif args.val_list is not None:
            split = mri_splits.PatientList(args.val_list)
        else:
            split = mri_splits.AllPatients(args.all)
        root = args.root or args.images.parent
        output = args.output or root / "prepared"
        counts = mri_prepare.prepare_mri(
            args.layout,
            root,
            split,
            output,
            images=args.images,
            labels=args.labels,
            index=args.index,
            axis=args.axis,
            skull_stripped=args.skull_stripped,
            label_values=args.label_values,
            labelled=not args.allow_missing_labels,
            jobs=args.jobs,
        )
        columns = list(next(iter(counts.values())))
        width = max(len(name) for name in counts) + len(".json")
        print(" " * width, *columns, sep="  ")
        for name, row in counts.items():
            cells = (str(row[column]).rjust(len(column)) for column in columns)
            print(f"{name}.json".ljust(width), *cells, sep="  ")
        print(f"written to {printable(output)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # On a line of its own: the progress bar may not have ended its line.
        print("\ninterrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(130)
