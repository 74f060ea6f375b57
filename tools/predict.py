#!/usr/bin/env python
"""Find polyps in images and videos with a trained model.

    python tools/predict.py --run runs/my --input my/images --output my_predicted
    python tools/predict.py --run runs/my --input 'ward/**/*.jpg' exam.mp4 --output found --what csv
    python tools/predict.py --run runs/my --input 0 --output live    # a webcam, until Ctrl-C

Writes to --output, or of it what --what names:

    overlays/NAME.jpg, of a video .mp4      what is found, of a score of --threshold or more
    masks/NAME.png, of a video NAME/N.png   its pixels 255, the others 0
    predictions.json, images.json           COCO's results, of every score; a COCO file of images
    predictions.csv                         a line an image or frame; seconds are the model's

NAME is the file's name, with its folder's and suffix where others have the same. Where a model has
no masks, boxes take their place. Images are read, predicted and written a batch at a time: memory
does not grow. Of images of more than 2 million pixels only the best detections are kept, as many as
200 MB of masks hold. Files that cannot be read are told at the end, with exit code 2, the others
are done.
"""

import argparse
import glob
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error, first_few

KINDS = ("overlays", "masks", "json", "csv")
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
BATCH_PIXELS = 8_000_000  # masks are of the images' size: of large images fewer at a time


class Source(NamedTuple):
    """An image, a video or a webcam's number, and what its predictions are called."""

    path: str
    name: str
    is_video: bool


class Picture(NamedTuple):
    """An image or a video's frame, BGR, and what the model takes of it."""

    source: Source
    pixels: Any
    item: dict[str, Any]
    frame: int | None = None
    fps: float = 0.0


def main(argv: list[str] | None = None) -> None:
    """Predict; exits with 2 on wrong input, 130 on Ctrl-C, with what is finished in place.

    SIGTERM and SIGHUP end it as Ctrl-C does, with 143 and 129.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="output folder of train_net.py, or a config file")
    add("--checkpoint", metavar="FILE", help="weights (default: the run's newest)")
    add("--input", nargs="+", required=True, help="images, videos, folders, globs, webcam's number")
    add("--output", type=Path, required=True, help="a folder")
    add("--threshold", type=float, default=0.5, help="least score (default 0.5)")
    add("--what", nargs="+", choices=KINDS, default=KINDS, help="what to write (default: all)")
    add("--batch-size", type=int, default=8, help="images at a time, at most (default 8)")
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    add("--force", action="store_true", help="write over files that are there")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        try:
            predict_all(args)
        except OSError as error:
            raise InputError(f"{error}.") from error  # of a folder that cannot be written to
        except KeyboardInterrupt as stop:
            print("\ninterrupted; what is finished stays", file=sys.stderr)
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))


def predict_all(args: argparse.Namespace) -> None:
    """Do it; raises InputError at the end where there are files that could not be used."""
    from tqdm import tqdm

    import inspire_d2
    from inspire_d2.findings import check_regions
    from tools.predict_output import Output

    if not 0 <= args.threshold <= 1 or args.batch_size < 1:
        raise InputError("--threshold must be in 0..1, --batch-size 1 or more.")
    sources = find_sources(args.input)
    check_output(sources, args)
    model = inspire_d2.load(args.run, args.checkpoint, args.device, channel_order="BGR")
    total = sum(map(count, sources)) or None  # a webcam has no end
    refused: list[str] = []
    with (
        Output(args, model.categories) as output,
        tqdm(total=total, unit="image", mininterval=0.5 if sys.stderr.isatty() else 10) as bar,
    ):
        for batch in batches(pictures(sources, model, refused), args.batch_size):
            start = time.monotonic()
            results = model.predict([picture.item for picture in batch])
            seconds = (time.monotonic() - start) / len(batch)
            for picture, result in zip(batch, results, strict=True):
                try:
                    check_regions(result, args.threshold)
                    output.check(picture)
                except InputError as error:
                    refused.append(f"{picture.source.path}: {error}")
                else:
                    output.add(picture, result, seconds)
            bar.update(len(batch))
            if output.stops:
                raise KeyboardInterrupt(output.stops[0])
    print(f"predicted {bar.n} images, see {args.output}")
    if refused:
        raise InputError("\n  ".join([f"{len(refused)} of the files could not be used:", *refused]))


def find_sources(words: Iterable[str]) -> list[Source]:
    """Return what the command line names, each once; raises InputError where that is nothing."""
    paths: dict[str, str] = {}
    for word in words:
        if word.isdecimal() and not os.path.exists(word):
            paths[word] = word
            continue
        found = [word] if os.path.exists(word) else sorted(glob.glob(word, recursive=True))
        if os.path.isdir(word):
            # Not hidden ones, such as macOS puts beside others on foreign disks.
            entries = [entry for entry in os.scandir(word) if not entry.name.startswith(".")]
            found = sorted(entry.path for entry in entries)
            found = [path for path in found if path.lower().endswith(IMAGES + VIDEOS)]
        found = [path for path in found if os.path.isfile(path)]
        if not found:
            raise InputError(f"--input {word}: there are no images or videos.")
        paths |= {os.path.realpath(path): path for path in found}
    names = unique_names([Path(path) for path in paths.values()])
    return [
        Source(path, name, key.isdecimal() or path.lower().endswith(VIDEOS))
        for (key, path), name in zip(paths.items(), names, strict=True)
    ]


def unique_names(paths: list[Path]) -> list[str]:
    """Name files by their stems; those that clash, in any case of letters, by folder and suffix."""
    uses = Counter(path.stem.casefold() for path in paths)
    names: dict[str, str] = {}
    for path in paths:
        longer = f"{path.parent.name}_{path.name}".replace(".", "_")
        name = longer if uses[path.stem.casefold()] > 1 else path.stem
        numbered = (f"{name}_{number}" if number > 1 else name for number in itertools.count(1))
        unique = next(one for one in numbered if one.casefold() not in names)
        names[unique.casefold()] = unique
    return list(names.values())


def check_output(sources: list[Source], args: argparse.Namespace) -> None:
    """Raise InputError where a file to write is there already, or is one of the inputs."""
    files = {"json": ["predictions.json", "images.json"], "csv": ["predictions.csv"]}
    files["overlays"] = [f"overlays/{s.name}{'.mp4' if s.is_video else '.jpg'}" for s in sources]
    files["masks"] = [f"masks/{s.name}{'' if s.is_video else '.png'}" for s in sources]
    there = [name for kind in args.what for name in files[kind] if (args.output / name).exists()]
    if there and not args.force:
        raise InputError(
            f"{args.output} holds {len(there)} of the files already ({first_few(there, 3)}): take "
            "--force to write over them, or another --output."
        )
    inputs = {os.path.realpath(source.path) for source in sources}
    inputs |= {os.path.dirname(path) for path in inputs}  # of a video's masks all are replaced
    if own := [name for name in there if os.path.realpath(args.output / name) in inputs]:
        raise InputError(f"--output {args.output} would replace the input {first_few(own, 3)}.")


def count(source: Source) -> int:
    """Return the number of frames that a video says it has, or 1."""
    from inspire_d2.data.video import count_frames

    return count_frames(source.path) if source.is_video else 1


def pictures(sources: list[Source], model: Any, refused: list[str]) -> Iterator[Picture]:
    """Read the sources one by one; a sentence for each that cannot be read goes to ``refused``."""
    from inspire_d2.data.video import read_video
    from inspire_d2.predictor import read_image

    for source in sources:
        try:
            if not source.is_video:
                pixels = read_image(source.path, "BGR")
                yield Picture(source, pixels, model.prepare(pixels))
                continue
            for number, (pixels, fps) in enumerate(read_video(source.path)):
                yield Picture(source, pixels, model.prepare(pixels), number, fps)
        except InputError as error:
            refused.append(str(error) if source.path in str(error) else f"{source.path}: {error}")


def batches(stream: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Gather up to ``size`` pictures, fewer where they are large."""
    batch: list[Picture] = []
    for picture in stream:
        batch.append(picture)
        if len(batch) == size or sum(p.pixels.size // 3 for p in batch) >= BATCH_PIXELS:
            yield batch
            batch = []
    if batch:
        yield batch


if __name__ == "__main__":
    main()
