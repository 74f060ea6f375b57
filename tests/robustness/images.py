"""Image files, of which predictions are to be made and data sets to be prepared."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .case import EITHER, RESULT, SENTENCE, Case
from .damage import damaged

__all__ = ["cases", "encoded"]


def picture(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Make noise of that size, the same each time."""
    bands = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}.get(mode, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, bands), np.uint8)
    image = Image.fromarray(pixels.squeeze(2) if bands == 1 else pixels[:, :, :3])
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that says to be large, and is black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def animated() -> bytes:
    """Return a GIF of three frames."""
    frames = [picture(mode="L").rotate(90 * k) for k in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def turned() -> bytes:
    """Return a JPEG that its EXIF data turns by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), "JPEG", exif=exif)


# Name of the file: its content, and what a prediction of it must come to.
KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "plain.png": (lambda: encoded(picture(), "PNG"), RESULT),
    "plain.jpg": (lambda: encoded(picture(), "JPEG"), RESULT),
    "grey.png": (lambda: encoded(picture(mode="L"), "PNG"), RESULT),
    "grey_alpha.png": (lambda: encoded(picture(mode="LA"), "PNG"), RESULT),
    "alpha.png": (lambda: encoded(picture(mode="RGBA"), "PNG"), RESULT),
    "palette.png": (lambda: encoded(picture(mode="P"), "PNG"), RESULT),
    "two_levels.png": (lambda: encoded(picture(mode="1"), "PNG"), RESULT),
    "cmyk.jpg": (lambda: encoded(picture(mode="CMYK"), "JPEG"), RESULT),
    "turned.jpg": (turned, RESULT),
    "animated.gif": (animated, RESULT),
    "plain.bmp": (lambda: encoded(picture(), "BMP"), RESULT),
    "plain.tif": (lambda: encoded(picture(), "TIFF"), RESULT),
    "plain.webp": (lambda: encoded(picture(), "WEBP"), RESULT),
    "png_in.jpg": (lambda: encoded(picture(), "PNG"), RESULT),
    "one_pixel.png": (lambda: encoded(picture(1, 1), "PNG"), EITHER),
    "two_by_one.png": (lambda: encoded(picture(2, 1), "PNG"), EITHER),
    "line.png": (lambda: encoded(picture(20000, 1), "PNG"), EITHER),
    "column.png": (lambda: encoded(picture(1, 20000), "PNG"), EITHER),
    "large.png": (lambda: encoded(Image.new("RGB", (6000, 5000)), "PNG"), EITHER),
    "too_large.png": (lambda: encoded(Image.new("L", (12000, 9000)), "PNG"), SENTENCE),
    "sixteen_bits.png": (
        lambda: encoded(Image.fromarray(np.full((48, 64), 40000, np.uint16)), "PNG"),
        SENTENCE,
    ),
    "float.tif": (lambda: encoded(picture(mode="F"), "TIFF"), SENTENCE),
    "empty.png": (lambda: b"", SENTENCE),
    "one_byte.png": (lambda: b"\x89", SENTENCE),
    "zeros.png": (lambda: b"\0" * 10000, SENTENCE),
    "text.png": (lambda: b"not an image\n" * 100, SENTENCE),
    "html.jpg": (lambda: b"<html><body>404</body></html>", SENTENCE),
    "cut_off.png": (lambda: encoded(picture(), "PNG")[:3000], SENTENCE),
    "cut_off.jpg": (lambda: encoded(picture(), "JPEG")[:1000], SENTENCE),
    "header_alone.png": (lambda: encoded(picture(), "PNG")[:33], SENTENCE),
    "bomb.png": (lambda: bomb(60000, 60000), SENTENCE),
    "larger_bomb.png": (lambda: bomb(2_000_000_000, 2), SENTENCE),
    "no_size.png": (lambda: bomb(0, 0), SENTENCE),
    "svg.png": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', SENTENCE),
}


def to_predict(name: str, content: Callable[[], bytes], folder: Path) -> list[str]:
    """Lay out one image, of which the model's prediction is wanted."""
    (folder / name).write_bytes(content())
    return ["--run", "run", "--input", name, "--output", "out/found"]


def to_prepare(name: str, content: Callable[[], bytes], as_mask: bool, folder: Path) -> list[str]:
    """Lay out a data set with one such image, or mask, beside sound ones."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
        for number in range(2):
            (folder / kind / f"{number}.png").write_bytes(encoded(picture(mode="L"), "PNG"))
    stem, suffix = Path(name).stem, Path(name).suffix
    other = encoded(picture(mode="L"), "PNG")
    (folder / "images" / f"{stem}{'.png' if as_mask else suffix}").write_bytes(
        other if as_mask else content()
    )
    (folder / "masks" / f"{stem}{suffix if as_mask else '.png'}").write_bytes(
        content() if as_mask else other
    )
    words = ["--layout", "folders", "--images", "images", "--masks", "masks"]
    return [*words, "--all", "all", "--output", "out"]


def cases(seed: int) -> Iterator[Case]:
    """Yield them."""
    for name, (content, wanted) in KINDS.items():
        says = name if wanted == SENTENCE else ""
        yield Case("image", name, "predict", partial(to_predict, name, content), wanted, says)
        for as_mask in (False, True):
            kind = "mask to prepare" if as_mask else "image to prepare"
            build = partial(to_prepare, name, content, as_mask)
            yield Case(kind, name, "prepare_polyps", build)
    for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP"):
        for number, content in enumerate(damaged(encoded(picture(), kind), seed, 8)):
            name = f"damaged_{number}.{kind.lower()[:4]}"
            build = partial(to_predict, name, partial(bytes, content))
            yield Case("damaged image", name, "predict", build)
