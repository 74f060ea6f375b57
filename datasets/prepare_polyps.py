"""Turn folders of polyp images and masks into COCO jsons for training and evaluation.

python datasets/prepare_polyps.py --layout kvasir --root datasets/kvasir --ratio 0.9
python datasets/prepare_polyps.py --layout polypgen --root datasets/polypgen \\
    --split-column centre --val-values C6
python datasets/prepare_polyps.py --layout pranet --root datasets/pranet --own-split
python datasets/prepare_polyps.py --layout folders --images mine/photos --masks mine/labels --all x

datasets/README.md describes the data sets. Exit codes: 0, 2 (wrong input, nothing was written),
130 (interrupted, nothing was written).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where it is not installed

LAYOUTS = ("kvasir", "cvc-clinicdb", "polypgen", "pranet", "folders")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 where options do not go together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--layout", required=True, choices=LAYOUTS)
    add("--root", type=Path, help="the data set's folder; file names are relative to it")
    add("--images", type=Path, help="layout folders: the images, if not ROOT/images")
    add("--masks", type=Path, help="layout folders: the masks, if not ROOT/masks")
    add("--output", type=Path, help="where the jsons go (default: ROOT/annotations)")
    add("--index", type=Path, help="csv with name, centre, ... (default: ROOT/index.csv, if there)")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--ratio", type=float, help="random split: share of train.json, e.g. 0.9")
    how.add_argument("--train-list", type=Path, help="names for train.json, one per line")
    how.add_argument("--split-column", help="column of the index to split by, e.g. centre")
    how.add_argument("--own-split", action="store_true", help="the published one (pranet)")
    how.add_argument("--all", metavar="NAME", help="everything into NAME.json")
    add("--seed", type=int, help="of --ratio (default 0)")
    add("--val-list", type=Path, help="names for val.json, one per line")
    add("--val-values", nargs="+", metavar="VALUE", help="values of the column that go to val.json")
    add("--min-area", type=int, default=30, help="drop smaller components (pixels, default 30)")
    add("--jobs", type=int, default=1, help="processes that read files (default 1)")
    args = parser.parse_args(arguments)
    for first, second in (("train_list", "val_list"), ("split_column", "val_values")):
        if (getattr(args, first) is None) != (getattr(args, second) is None):
            options = (f"--{name.replace('_', '-')}" for name in (first, second))
            parser.error(" and ".join(options) + " go together")
    if args.seed is not None and args.ratio is None:
        parser.error("--seed belongs to --ratio")
    if args.root is None and args.images is None:
        parser.error("--root is missing")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the data set that the command line describes and print what came of it."""
    args = parse(arguments)
    from inspire_d2.data import prepare, splits  # takes seconds: not before the options are right
    from inspire_d2.errors import exit_on_input_error, printable

    with exit_on_input_error():
        if args.ratio is not None:
            split = splits.RatioSplit(args.ratio, args.seed or 0)
        elif args.train_list is not None:
            split = splits.ListSplit(args.train_list, args.val_list)
        elif args.split_column is not None:
            split = splits.ColumnSplit(args.split_column, tuple(args.val_values))
        else:
            split = splits.OwnSplit() if args.own_split else splits.AllSplit(args.all)
        root = args.root or args.images.parent
        output = args.output or root / "annotations"
        counts = prepare.prepare_polyps(
            args.layout,
            root,
            split,
            output,
            images=args.images,
            masks=args.masks,
            index=args.index,
            min_area=args.min_area,
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
        print("\ninterrupted, nothing was written", file=sys.stderr)
        sys.exit(130)
