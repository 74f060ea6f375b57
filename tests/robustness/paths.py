"""Paths: names, links, and places that cannot be read or written."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .case import EITHER, RESULT, SENTENCE, Case
from .images import encoded, picture

__all__ = ["cases"]

Build = Callable[[Path], list[str]]


def image(path: Path) -> None:
    """Write a sound image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(), "PNG"))


def named(name: str, folder: Path) -> list[str]:
    """Predict an image of this name."""
    image(folder / name)
    return ["--run", "run", "--input", name, "--output", "out/found"]


def output(name: str, folder: Path) -> list[str]:
    """Predict into this folder."""
    image(folder / "a.png")
    return ["--run", "run", "--input", "a.png", "--output", name]


def output_is_a_file(folder: Path) -> list[str]:
    """Predict into a folder that is a file."""
    (folder / "taken").write_text("mine")
    return output("taken", folder)


def inside_a_file(folder: Path) -> list[str]:
    """Predict into a folder below a file."""
    (folder / "taken").write_text("mine")
    return output("taken/found", folder)


def output_there(folder: Path) -> list[str]:
    """Predict where an earlier prediction lies."""
    (folder / "out" / "found" / "masks").mkdir(parents=True)
    (folder / "out" / "found" / "masks" / "a.png").write_text("mine")
    return output("out/found", folder)


def full_disk(folder: Path) -> list[str]:
    """Predict into a file system that takes nothing; every write to /dev/full fails."""
    (folder / "out" / "found").mkdir(parents=True)
    (folder / "out" / "found" / "predictions.csv").symlink_to("/dev/full")
    return [*output("out/found", folder), "--force", "--what", "csv"]


def full_disk_json(folder: Path) -> list[str]:
    """The same of the json."""
    (folder / "out" / "found").mkdir(parents=True)
    (folder / "out" / "found" / "predictions.json").symlink_to("/dev/full")
    return [*output("out/found", folder), "--force", "--what", "json"]


def read_only(folder: Path) -> list[str]:
    """Predict into a place that nobody may write to."""
    return output("/proc/found", folder)


def fifo(folder: Path) -> list[str]:
    """Predict a pipe that nobody writes to."""
    os.mkfifo(folder / "pipe.png")
    return ["--run", "run", "--input", "pipe.png", "--output", "out/found"]


def fifo_in_a_folder(folder: Path) -> list[str]:
    """Predict a folder in which such a pipe is."""
    image(folder / "images" / "a.png")
    os.mkfifo(folder / "images" / "pipe.png")
    return ["--run", "run", "--input", "images", "--output", "out/found"]


def link_to_itself(folder: Path) -> list[str]:
    """Predict a link without end."""
    (folder / "loop.png").symlink_to("loop.png")
    return ["--run", "run", "--input", "loop.png", "--output", "out/found"]


def folder_as_image(folder: Path) -> list[str]:
    """Predict a folder whose name is an image's."""
    (folder / "images" / "a.png").mkdir(parents=True)
    return ["--run", "run", "--input", "images", "--output", "out/found"]


def words(*given: str) -> Build:
    """Return what lays out nothing."""
    return lambda _: list(given)


PREDICT: dict[str, tuple[Build, str]] = {
    "spaces": (partial(named, "a b  c.png"), RESULT),
    "unicode": (partial(named, "darm\u00df\U0001f4a5\u202e.png"), RESULT),
    "newline": (partial(named, "a\nb.png"), RESULT),
    "quotes": (partial(named, "a'\"b.png"), RESULT),
    "dash": (partial(named, "sub/-f.png"), RESULT),
    "pattern": (partial(named, "a[1].png"), RESULT),
    "dots": (partial(named, "a..b.png"), RESULT),
    "hidden": (partial(named, ".a.png"), EITHER),
    "no suffix": (partial(named, "image"), EITHER),
    "long": (partial(named, "x" * 240 + ".png"), EITHER),
    "bytes": (partial(named, "a\udcff.png"), EITHER),
    "deep": (partial(named, "/".join("d" * 20 for _ in range(20)) + "/a.png"), RESULT),
    "output with spaces": (partial(output, "out/a b"), RESULT),
    "output unicode": (partial(output, "out/\u00df\U0001f4a5"), RESULT),
    "output a file": (output_is_a_file, SENTENCE),
    "output below a file": (inside_a_file, SENTENCE),
    "output there": (output_there, SENTENCE),
    "output long": (partial(output, "out/" + "y" * 300), SENTENCE),
    "full disk": (full_disk, SENTENCE),
    "full disk, json": (full_disk_json, SENTENCE),
    "read only": (read_only, SENTENCE),
    "pipe": (fifo, SENTENCE),
    "pipe in a folder": (fifo_in_a_folder, EITHER),
    "endless link": (link_to_itself, SENTENCE),
    "folder as image": (folder_as_image, SENTENCE),
    "nothing": (words("--run", "run", "--input", "gone", "--output", "out/found"), SENTENCE),
    "no such option": (words("--frobnicate"), SENTENCE),
    "threshold": (words("--run", "r", "--input", "0", "--output", "out", "--threshold", "nan"),
                  SENTENCE),
    "batch size": (words("--run", "r", "--input", "0", "--output", "out", "--batch-size", "x"),
                   SENTENCE),
}  # fmt: skip


def cases(seed: int) -> Iterator[Case]:
    """Yield them; none depends on the seed."""
    for name, (build, wanted) in PREDICT.items():
        yield Case("path", name, "predict", build, wanted)
    for command in ("load", "summarize"):
        for name in ("gone", "/", "/dev/null", "a\0b", "", "out", "/proc/self/mem", "x" * 5000):
            yield Case("path of a run", f"{command} {name[:20]!r}", command, words(name), SENTENCE)
