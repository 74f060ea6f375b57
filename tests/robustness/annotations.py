"""Annotations to train on and to score by, and predictions to be scored."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .case import EITHER, RESULT, SENTENCE, Case
from .damage import damaged
from .images import encoded, picture
from .material import NAME, TRAINING

__all__ = ["cases"]

WIDTH, HEIGHT = 64, 48
Json = dict[str, Any]


def sound() -> Json:
    """Return annotations of two images, of which one has a polyp."""
    image = {"width": WIDTH, "height": HEIGHT}
    box = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400.0}
    box |= {"bbox": [10, 10, 20, 20], "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]]}
    return {
        "images": [
            {"id": 1, "file_name": "a.png"} | image,
            {"id": 2, "file_name": "b.png"} | image,
        ],
        "annotations": [box],
        "categories": [{"id": 1, "name": "polyp"}],
    }


def changed(*keys: Any, to: Any) -> Callable[[Json], Json]:
    """Return a function that sets one value, found by its keys, to another."""

    def change(content: Json) -> Json:
        node: Any = content
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = to
        return content

    return change


def without(*keys: Any) -> Callable[[Json], Json]:
    """Return a function that takes one value out."""

    def change(content: Json) -> Json:
        node: Any = content
        for key in keys[:-1]:
            node = node[key]
        del node[keys[-1]]
        return content

    return change


def twice(key: str) -> Callable[[Json], Json]:
    """Return a function that lists the first of something again."""
    return lambda content: content | {key: [*content[key], copy.deepcopy(content[key][0])]}


OBJECT = ("annotations", 0)
NAN, INFINITE = float("nan"), float("inf")
LONG = {"size": [HEIGHT, WIDTH], "counts": [10**9, 10**9]}
# Compressed counts of 100 pixels, and of 200 x 200 with a diagonal: not of this image.
FEW, MANY = "T3", "01X6" + "0" * 397
CHANGES: dict[str, Callable[[Json], Json]] = {
    "NaN box": changed(*OBJECT, "bbox", to=[NAN, 0, 5, 5]),
    "infinite box": changed(*OBJECT, "bbox", to=[0, 0, INFINITE, 5]),
    "negative box": changed(*OBJECT, "bbox", to=[5, 5, -3, 4]),
    "box of three": changed(*OBJECT, "bbox", to=[1, 2, 3]),
    "box of text": changed(*OBJECT, "bbox", to=["a", "b", "c", "d"]),
    "box far outside": changed(*OBJECT, "bbox", to=[1e9, 1e9, 5, 5]),
    "huge box": changed(*OBJECT, "bbox", to=[0, 0, 1e300, 1e300]),
    "no box": without(*OBJECT, "bbox"),
    "box null": changed(*OBJECT, "bbox", to=None),
    "NaN polygon": changed(*OBJECT, "segmentation", to=[[NAN, 1, 2, 3, 4, 5]]),
    "polygon of two points": changed(*OBJECT, "segmentation", to=[[1, 1, 2, 2]]),
    "polygon of odd length": changed(*OBJECT, "segmentation", to=[[1, 1, 2, 2, 3, 3, 4]]),
    "polygon of text": changed(*OBJECT, "segmentation", to=[["a"] * 6]),
    "polygon far outside": changed(*OBJECT, "segmentation", to=[[1e12] * 6]),
    "empty polygon": changed(*OBJECT, "segmentation", to=[[]]),
    "no polygon": changed(*OBJECT, "segmentation", to=[]),
    "huge RLE": changed(*OBJECT, "segmentation", to=LONG),
    "RLE that says 1 GB": changed(*OBJECT, "segmentation", to={"size": [40000, 40000],
                                                               "counts": [1600000000]}),
    "negative RLE": changed(*OBJECT, "segmentation", to={"size": [HEIGHT, WIDTH],
                                                         "counts": [-5, 3077]}),
    "RLE too short": changed(*OBJECT, "segmentation", to={"size": [HEIGHT, WIDTH],
                                                          "counts": [5, 5]}),
    "RLE of noise": changed(*OBJECT, "segmentation", to={"size": [HEIGHT, WIDTH],
                                                         "counts": "~~~zz\x7f€"}),
    "compressed RLE too short": changed(*OBJECT, "segmentation", to={"size": [HEIGHT, WIDTH],
                                                                     "counts": FEW}),
    "compressed RLE too long": changed(*OBJECT, "segmentation", to={"size": [HEIGHT, WIDTH],
                                                                    "counts": MANY}),
    "RLE without size": changed(*OBJECT, "segmentation", to={"counts": "abc"}),
    "RLE without counts": changed(*OBJECT, "segmentation", to={"size": [HEIGHT, WIDTH]}),
    "mask a number": changed(*OBJECT, "segmentation", to=7),
    "image twice": twice("images"),
    "annotation twice": twice("annotations"),
    "category twice": twice("categories"),
    "unknown category": changed(*OBJECT, "category_id", to=9),
    "category text": changed(*OBJECT, "category_id", to="polyp"),
    "unknown image": changed(*OBJECT, "image_id", to=77),
    "image id a list": changed("images", 0, "id", to=[1]),
    "image id null": changed("images", 0, "id", to=None),
    "no file name": without("images", 0, "file_name"),
    "file name a number": changed("images", 0, "file_name", to=5),
    "file name outside": changed("images", 0, "file_name", to="../../../../etc/passwd"),
    "file name unicode": changed("images", 0, "file_name", to="ö\u202e\U0001f4a5.png"),
    "file name with NUL": changed("images", 0, "file_name", to="a\0.png"),
    "file name long": changed("images", 0, "file_name", to="x" * 5000),
    "width zero": changed("images", 0, "width", to=0),
    "width negative": changed("images", 0, "width", to=-64),
    "width text": changed("images", 0, "width", to="64"),
    "width wrong": changed("images", 0, "width", to=63),
    "width huge": changed("images", 0, "width", to=10**12),
    "crowd of polygons": changed(*OBJECT, "iscrowd", to=1),
    "ignored": changed(*OBJECT, "ignore", to=1),
    "keypoints of text": changed(*OBJECT, "keypoints", to=["a"]),
    "keypoints of two": changed(*OBJECT, "keypoints", to=[1, 2]),
    "crowd text": changed(*OBJECT, "iscrowd", to="no"),
    "area NaN": changed(*OBJECT, "area", to=NAN),
    "area missing": without(*OBJECT, "area"),
    "no images": changed("images", to=[]),
    "images a number": changed("images", to=3),
    "no annotations": without("annotations"),
    "annotations null": changed("annotations", to=None),
    "no categories": without("categories"),
    "categories empty": changed("categories", to=[]),
    "annotation a list": changed("annotations", 0, to=[]),
    "image a text": changed("images", 0, to="a.png"),
}  # fmt: skip
FILES: dict[str, bytes] = {
    "empty file": b"",
    "empty list": b"[]",
    "null": b"null",
    "text": b"polyp",
    "deep": b"[" * 100_000,
    "deep object": b'{"images":' * 20_000,
    "binary": bytes(range(256)) * 10,
    "UTF-16": json.dumps(sound()).encode("utf-16"),
    "with byte order mark": b"\xef\xbb\xbf" + json.dumps(sound()).encode(),
    "long number": b'{"images": ' + b"9" * 100_000 + b"}",
}
# Results that go with the sound annotations; what is wrong with them
RESULT_OF = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
PREDICTIONS: dict[str, Any] = {
    "sound": [RESULT_OF],
    "none": [],
    "NaN score": [RESULT_OF | {"score": NAN}],
    "infinite score": [RESULT_OF | {"score": INFINITE}],
    "score text": [RESULT_OF | {"score": "high"}],
    "no score": [{key: RESULT_OF[key] for key in ("image_id", "category_id", "bbox")}],
    "NaN box": [RESULT_OF | {"bbox": [NAN, 1, 2, 3]}],
    "negative box": [RESULT_OF | {"bbox": [1, 2, -3, -4]}],
    "box of three": [RESULT_OF | {"bbox": [1, 2, 3]}],
    "unknown image": [RESULT_OF | {"image_id": 99}],
    "unknown category": [RESULT_OF | {"category_id": 99}],
    "mask of another size": [RESULT_OF | {"segmentation": {"size": [5, 5], "counts": "R1"}}],
    "mask of noise": [RESULT_OF | {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "€zz~"}}],
    "mask that says 1 GB": [RESULT_OF | {"segmentation": {"size": [40000, 40000],
                                                          "counts": [1600000000]}}],
    "an object": {"image_id": 1},
    "numbers": [1, 2, 3],
    "many": [RESULT_OF | {"score": k / 20000} for k in range(20000)],
}  # fmt: skip


def to_train(content: bytes, folder: Path) -> list[str]:
    """Lay out a set of two images with these annotations."""
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(encoded(picture(WIDTH, HEIGHT), "PNG"))
    (folder / "train.json").write_bytes(content)
    return ["--config-file", NAME, *TRAINING]


def to_score(truth: bytes, results: bytes, folder: Path) -> list[str]:
    """Lay out annotations, and predictions to score by them."""
    (folder / "truth.json").write_bytes(truth)
    (folder / "results.json").write_bytes(results)
    return ["results.json", "--truth", "truth.json", "--output", "out/scores.json"]


def cases(seed: int) -> Iterator[Case]:
    """Yield them."""
    files = {
        name: json.dumps(change(sound()), ensure_ascii=False).encode("utf-8", "surrogatepass")
        for name, change in CHANGES.items()
    } | FILES
    results = json.dumps([RESULT_OF]).encode()
    plain = json.dumps(sound()).encode()
    yield Case("annotations", "sound", "train", partial(to_train, plain), RESULT)
    for name, content in files.items():
        wanted = SENTENCE if name in FILES and "UTF" not in name and "mark" not in name else EITHER
        yield Case("annotations", name, "train", partial(to_train, content), wanted)
        yield Case("truth", name, "score", partial(to_score, content, results), wanted)
    for name, content in PREDICTIONS.items():
        wanted = RESULT if name in ("sound", "many") else EITHER
        build = partial(to_score, plain, json.dumps(content).encode())
        yield Case("predictions", name, "score", build, wanted)
    for number, content in enumerate(damaged(plain, seed, 12)):
        yield Case("damaged truth", str(number), "score", partial(to_score, content, results))
    for number, content in enumerate(damaged(results, seed, 12)):
        yield Case("damaged predictions", str(number), "score", partial(to_score, plain, content))
