#!/usr/bin/env python
"""Make a page about a run, or about how it compares with another: one HTML file, nothing else.

    python tools/report.py runs/my
    python tools/report.py runs/my runs/my2 --output comparison.html

The page holds figures with their intervals, the worst and the best cases as pictures, what was
missed, calibration, a table of every image, curves, cost and configuration; opened in a browser it
loads nothing from anywhere. What a run's scoring did not save (a segmenter's maps) is predicted
anew with its newest checkpoint. Images come from the config's test set; without them the page has
no pictures.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error, printable


def main(argv: list[str] | None = None) -> None:
    """Write the page; exits with 2 on wrong input and with 130 on Ctrl-C, with nothing written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="output folder of train_net.py")
    add("other", type=Path, nargs="?", metavar="OTHER_RUN", help="a run to compare it with")
    add("--output", type=Path, metavar="FILE.html", help="(default: RUN/report.html)")
    add("--force", action="store_true", help="write over a file that is there")
    add("--checkpoint", metavar="FILE", help="predict anew with these weights of RUN")
    add("--no-predict", action="store_true", help="run no model, show what was saved")
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        if args.no_predict and args.checkpoint:
            raise InputError("--checkpoint names weights to predict with: leave --no-predict out.")
        try:
            report(args)
        except KeyboardInterrupt:
            print("\ninterrupted; no page was written", file=sys.stderr)
            sys.exit(130)


def report(args: argparse.Namespace) -> None:
    """Write it, and say what is missing from it."""
    from inspire_d2.report import write_report

    path, notes = write_report(
        args.run,
        args.other,
        args.output,
        force=args.force,
        checkpoint=args.checkpoint,
        device=args.device,
        may_predict=not args.no_predict,
    )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"written: {printable(path)} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
