"""NIfTI files, to be prepared and predicted."""

import gzip
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .case import EITHER, RESULT, SENTENCE, Case
from .damage import damaged

__all__ = ["cases"]

SHAPE = (12, 10, 4)


def volume(data: np.ndarray | None = None) -> bytes:
    """Return an uncompressed NIfTI file."""
    import nibabel as nib

    if data is None:
        data = np.random.default_rng(0).normal(100, 9, SHAPE).astype(np.float32)
    return nib.Nifti1Image(data, np.eye(4)).to_bytes()


def label() -> bytes:
    """Return the label file that goes with it."""
    data = np.zeros(SHAPE, np.uint8)
    data[2:6, 3:7, 1:3] = 1
    return gzip.compress(volume(data))


def with_header(place: int, form: str, *values: float) -> bytes:
    """Return a file with numbers put into its header."""
    content = bytearray(volume())
    struct.pack_into(form, content, place, *values)
    return bytes(content)


def filled(value: float) -> bytes:
    """Return a file of one value."""
    return volume(np.full(SHAPE, value, np.float32))


BEFORE_DATA = slice(0, 352)
KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "sound": (lambda: gzip.compress(volume()), RESULT),
    "empty": (lambda: b"", SENTENCE),
    "empty archive": (lambda: gzip.compress(b""), SENTENCE),
    "text": (lambda: gzip.compress(b"not a volume" * 100), SENTENCE),
    "not compressed": (volume, EITHER),
    "archive cut off": (lambda: gzip.compress(volume())[:900], SENTENCE),
    "data cut off": (lambda: gzip.compress(volume()[:1000]), SENTENCE),
    "header alone": (lambda: gzip.compress(volume()[BEFORE_DATA]), SENTENCE),
    "says to be of 1 TB": (
        lambda: gzip.compress(with_header(40, "<4h", 3, 10000, 10000, 2500)), SENTENCE),
    "negative shape": (lambda: gzip.compress(with_header(40, "<4h", 3, -12, 10, 4)), SENTENCE),
    "shape of zero": (lambda: gzip.compress(with_header(40, "<4h", 3, 0, 10, 4)), SENTENCE),
    "seven dimensions": (
        lambda: gzip.compress(with_header(40, "<8h", 7, 12, 10, 4, 1, 1, 1, 2)), SENTENCE),
    "nine dimensions": (lambda: gzip.compress(with_header(40, "<h", 9)), SENTENCE),
    "four dimensions": (
        lambda: gzip.compress(volume(np.zeros((*SHAPE, 3), np.float32))), SENTENCE),
    "two dimensions": (lambda: gzip.compress(volume(np.zeros((9, 9), np.float32))), EITHER),
    "unknown type": (lambda: gzip.compress(with_header(70, "<h", 999)), SENTENCE),
    "NaN voxels": (lambda: gzip.compress(filled(float("nan"))), SENTENCE),
    "infinite voxels": (lambda: gzip.compress(filled(float("inf"))), SENTENCE),
    "one value": (lambda: gzip.compress(filled(7)), EITHER),
    "zeros": (lambda: gzip.compress(filled(0)), EITHER),
    "huge values": (lambda: gzip.compress(filled(3e38)), EITHER),
    "NaN scale": (lambda: gzip.compress(with_header(112, "<2f", float("nan"), 0)), EITHER),
    "infinite scale": (lambda: gzip.compress(with_header(112, "<2f", float("inf"), 0)), EITHER),
    "NaN affine": (
        lambda: gzip.compress(with_header(280, "<12f", *[float("nan")] * 12)), SENTENCE),
    "flat affine": (
        lambda: gzip.compress(with_header(280, "<12f", 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)),
        EITHER),
    "NaN spacing": (lambda: gzip.compress(with_header(80, "<3f", *[float("nan")] * 3)), EITHER),
    "data before the header": (lambda: gzip.compress(with_header(108, "<f", 0)), EITHER),
    "data far behind": (lambda: gzip.compress(with_header(108, "<f", 1e9)), SENTENCE),
    "complex": (lambda: gzip.compress(volume(np.ones(SHAPE, np.complex64))), EITHER),
    "archive of zeros": (lambda: gzip.compress(volume() + bytes(200_000_000), 1), EITHER),
}  # fmt: skip


def laid_out(content: bytes, as_label: bool, folder: Path) -> None:
    """Write two cases, of which one has this file."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for name in ("a", "b"):
            sound = label() if kind == "labels" else gzip.compress(volume())
            broken = name == "b" and as_label == (kind == "labels")
            (folder / kind / f"{name}.nii.gz").write_bytes(content if broken else sound)


def to_prepare(content: Callable[[], bytes], as_label: bool, folder: Path) -> list[str]:
    """Lay out a data set."""
    laid_out(content(), as_label, folder)
    return ["--layout", "folders", "--root", ".", "--val-ratio", "0.5", "--output", "out/prepared"]


def to_predict(content: Callable[[], bytes], folder: Path) -> list[str]:
    """Lay out volumes to predict."""
    laid_out(content(), False, folder)
    words = ["--run", "run", "--layout", "folders", "--images", "images", "--output", "out/found"]
    return [*words, "--labels", "1", "--axis", "2", "--skull-stripped"]


def cases(seed: int) -> Iterator[Case]:
    """Yield them."""
    for name, (content, wanted) in KINDS.items():
        says = "b" if wanted == SENTENCE else ""
        for as_label in (False, True):
            kind = "label to prepare" if as_label else "volume to prepare"
            build = partial(to_prepare, content, as_label)
            what = wanted if not as_label or wanted == SENTENCE else EITHER
            yield Case(kind, name, "prepare_mri", build, what, says)
        yield Case("volume", name, "predict_mri", partial(to_predict, content), wanted, says)
    for number, content in enumerate(damaged(volume()[:600], seed, 12)):
        whole = gzip.compress(content + volume()[600:])
        build = partial(to_predict, partial(bytes, whole))
        yield Case("damaged volume", str(number), "predict_mri", build)
    for number, content in enumerate(damaged(gzip.compress(volume()), seed, 8)):
        build = partial(to_predict, partial(bytes, content))
        yield Case("damaged volume", f"archive {number}", "predict_mri", build)
