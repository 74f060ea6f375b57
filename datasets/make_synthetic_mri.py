#!/usr/bin/env python
"""Make synthetic brain MRI with tumours, in BraTS's layout.

    python datasets/make_synthetic_mri.py --output DIR --cases 6
    python datasets/make_synthetic_mri.py --output DIR --cases 1 --shape 240 240 155

writes ``DIR/CASE/CASE_{t1,t1ce,t2,flair,seg}.nii.gz``. Case i depends on the seed, the shape and i
only. Not a substitute for real data.
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
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--cases", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(96, 96, 24), help="in voxels of 1 mm"
    )
    args = parser.parse_args(argv)
    # Seconds, which --help and a mistyped option need not wait for.
    from inspire_d2.data.synthetic_mri import write_synthetic_mri

    with exit_on_input_error():
        names = write_synthetic_mri(args.output, args.cases, args.seed, tuple(args.shape))
        print(f"wrote {len(names)} cases to {printable(args.output)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # On a line of its own: the progress may not have ended its line.
        print("\ninterrupted, the set is not complete: make it again", file=sys.stderr)
        sys.exit(130)
