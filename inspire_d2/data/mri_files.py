"""Reading a NIfTI file, or the pictures that are a volume's slices, to their end."""

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from inspire_d2.data.images import is_cut_to_8_bits, unreadable

__all__ = ["BadFileError", "Volume", "read_header", "read_masks", "read_nifti", "read_pictures"]

# What nibabel and gzip raise for files that are truncated or damaged.
_BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
)
_CHUNK = 2**20  # bytes read at a time
_SPARE = 2**24  # bytes that may follow the voxels
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # of a file in metres, in micrometres; others are in mm


class BadFileError(Exception):
    """A file that cannot be used: the ``kind`` of problem, and the ``item`` that has it."""

    def __init__(self, kind: str, item: str) -> None:
        super().__init__(kind, item)
        self.kind, self.item = kind, item


@dataclass(frozen=True)
class Volume:
    """An array of three axes, where it lies (4x4, in mm), and its voxels' size along each axis.

    It is not ``oriented`` where its source does not say where it lies.
    """

    data: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    oriented: bool


def read_nifti(path: Path, dtype: type | None = None) -> Volume:
    """Read a file; its values become ``dtype`` (floating point), or stay what they are.

    Raises:
        BadFileError: it is no NIfTI file, truncated, damaged, not of three axes, of colours or
            complex numbers, or has an affine that cannot be.
    """
    content = _read(path)
    kind = _kind(path, content)
    try:
        image = kind.from_stream(BytesIO(content))
        del content
        stored = image.get_data_dtype()
        if len(image.shape) != 3 or 0 in image.shape:
            raise BadFileError("files that are not of three axes", f"{path} (shape {image.shape})")
        if stored.kind not in "iufb":
            raise BadFileError("files whose voxels are not numbers", f"{path} ({stored})")
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is found out later
            data = np.asarray(image.dataobj, dtype)  # scaled in float32, if that is asked for
    except _BROKEN as error:
        raise BadFileError("files that cannot be read", f"{path} ({_why(error)})") from error
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise BadFileError("files with an impossible affine", str(path))
    scale = _MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
    x, y, z = (float(size) * scale for size in nib.affines.voxel_sizes(affine))
    codes = (int(image.header["qform_code"]), int(image.header["sform_code"]))
    return Volume(data, affine, (x, y, z), any(codes))


def read_header(path: Path) -> nib.Nifti1Header:
    """Read the header alone (NIfTI-2's too). Raises BadFileError where there is none."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            start = file.read(1024)
            kind = _kind(path, start)
            file.seek(0)
            return kind.header_class.from_fileobj(file)
    except _BROKEN as error:
        raise BadFileError("files that cannot be read", f"{path} ({_why(error)})") from error


def read_pictures(paths: Sequence[Path], problems: list[tuple[str, str]]) -> np.ndarray | None:
    """Read RGB pictures of 8 bits as the slices of a volume: uint8 (H, W, S, 3).

    None, with the kinds and items added to ``problems``, where some cannot be used.
    """
    return _stack(paths, ("RGB",), problems)


def read_masks(paths: Sequence[Path], problems: list[tuple[str, str]]) -> np.ndarray | None:
    """Read masks of 0 and 255, or of 0 and 1, as the slices of a volume: uint8 (H, W, S), 0 or 1.

    None, with the kinds and items added to ``problems``, where some cannot be used.
    """
    volume = _stack(paths, ("L", "1", "P"), problems)
    if volume is None:
        return None
    values = [set(np.unique(volume[..., number]).tolist()) for number in range(len(paths))]
    highest = 1 if set().union(*values) <= {0, 1} else 255
    wrong = [number for number, own in enumerate(values) if not own <= {0, highest}]
    for number in wrong:
        shown = ", ".join(map(str, sorted(values[number])[:5]))
        problems.append(("masks of other values than 0 and 255", f"{paths[number]} ({shown} ...)"))
    return None if wrong else (volume > 0).astype(np.uint8)


def _stack(
    paths: Sequence[Path], modes: tuple[str, ...], problems: list[tuple[str, str]]
) -> np.ndarray | None:
    pictures: list[np.ndarray] = []
    for path in paths:
        try:
            picture = _read_picture(path, modes)
            if pictures and picture.shape != pictures[0].shape:
                sizes = f"{picture.shape[:2]}, the first is {pictures[0].shape[:2]}"
                raise BadFileError("slices of another size than the first", f"{path} ({sizes})")
            pictures.append(picture)
        except BadFileError as error:
            problems.append((error.kind, error.item))
    return np.stack(pictures, axis=2) if len(pictures) == len(paths) else None


def _read_picture(path: Path, modes: tuple[str, ...]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            deep = is_cut_to_8_bits(image)
            if image.mode in modes and not deep:
                data = np.asarray(image)
                return data.astype(np.uint8) if data.dtype == bool else data
            mode = f"{image.mode}, 16 bits" if deep else image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadFileError("files that cannot be read", f"{path} ({unreadable(error)})") from error
    raise BadFileError(f"pictures that are not {' or '.join(modes)} of 8 bits", f"{path} ({mode})")


def _read(path: Path) -> bytes:
    """Read and unpack a file as far as its header says, whatever size that is said to be.

    What follows is read too, for the checksum of gzip, but for more than a little: it would be an
    archive made to fill the memory.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            content = bytearray(file.read(_CHUNK))
            header_class = _kind(path, content).header_class
            header = header_class(bytes(content[: header_class.sizeof_hdr]), check=False)
            voxels = math.prod(map(int, header.get_data_shape())) * header.get_data_dtype().itemsize
            wanted = max(0, int(header["vox_offset"])) + voxels
            while len(content) < wanted + _SPARE and (chunk := file.read(_CHUNK)):
                content += chunk
            if len(content) >= wanted + _SPARE and file.read(1):
                raise BadFileError("files that go on after their voxels", str(path))
    except BadFileError:
        raise
    except KeyError as error:  # nibabel's, of the type's number
        raise BadFileError(
            "files that cannot be read", f"{path} (its voxels are of the unknown type {error})"
        ) from error
    except _BROKEN as error:
        why = _why(error)
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            why = f"truncated or damaged gzip: {why}"
        raise BadFileError("files that cannot be read", f"{path} ({why})") from error
    if len(content) < wanted:
        raise BadFileError(
            "files that cannot be read",
            f"{path} (truncated: {len(content)} bytes, its header says {wanted})",
        )
    return bytes(content)


def _kind(path: Path, content: bytes) -> type[nib.Nifti1Image]:
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        size = kind.header_class.sizeof_hdr
        if len(content) >= size and kind.header_class.may_contain_header(content[:size]):
            return kind
    raise BadFileError("files that cannot be read", f"{path} (not a NIfTI file)")


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
