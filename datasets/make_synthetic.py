#!/usr/bin/env python
"""Make a synthetic colonoscopy set with polyp masks in Kvasir-SEG's layout.

    python datasets/make_synthetic.py --output DIR --num-images 120 --seed 0

writes ``DIR/images/NAME.jpg`` and ``DIR/masks/NAME.png`` (0 and 255). Image i depends on the seed,
the size and i only, so a longer set starts with the same images. Not a substitute for real data.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import exit_on_input_error, printable


def main(argv: list[str] | None = None) -> None:
    """Parse ``argv``, write the set and report it; exits with 2 on wrong input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, help="folder to make")
    parser.add_argument("--num-images", type=int, default=120, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--size", type=int, default=224, help="nominal width in pixels, default: %(default)s"
    )
    args = parser.parse_args(argv)
    # Seconds, which --help and a mistyped option need not wait for.
    from inspire_d2.data.synthetic import write_synthetic_set

    with exit_on_input_error():
        names = write_synthetic_set(
            args.output, args.num_images, args.seed, args.size, progress=_show_progress
        )
        print(f"wrote {len(names)} images and masks to {printable(args.output)}")


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done % 100 == 0 or done == total:
        print(f"{done}/{total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # On a line of its own: the progress may not have ended its line.
        print("\ninterrupted, the set is not complete: make it again", file=sys.stderr)
        sys.exit(130)
