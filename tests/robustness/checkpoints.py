"""Checkpoints, of runs and of torchvision's kind."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .case import CANARY, EITHER, RESULT, SENTENCE, Case
from .damage import damaged
from .material import CHECKPOINT, CONFIG

__all__ = ["cases"]


class Payload:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """Name the command."""
        return os.system, (f"touch {CANARY}",)


def saved(content: Any) -> bytes:
    """Return what torch.save writes."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def weights() -> dict[str, torch.Tensor]:
    """Return the sound checkpoint's weights."""
    return torch.load(io.BytesIO(CHECKPOINT[0]), weights_only=True)["model"]


def with_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> bytes:
    """Return a checkpoint of changed weights."""
    return saved({"model": change(weights())})


def first_as(make: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, torch.Tensor]], Any]:
    """Return a function that makes something else of the first weight."""

    def change(state: dict[str, torch.Tensor]) -> dict[str, Any]:
        key = next(key for key in state if key.endswith("weight"))
        return state | {key: make(state[key])}

    return change


def half_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return every second weight."""
    return {key: state[key] for key in list(state)[::2]}


def zip_of(*members: tuple[str, bytes]) -> bytes:
    """Return a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "sound": (lambda: CHECKPOINT[0], RESULT),
    "empty": (lambda: b"", SENTENCE),
    "text": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", SENTENCE),
    "zeros": (lambda: b"\0" * 5000, SENTENCE),
    "cut off": (lambda: CHECKPOINT[0][: len(CHECKPOINT[0]) // 2], SENTENCE),
    "cut off early": (lambda: CHECKPOINT[0][:100], SENTENCE),
    "code in a pickle": (lambda: pickle.dumps(Payload()), SENTENCE),
    "code beside weights": (lambda: pickle.dumps({"model": {}, "x": Payload()}), SENTENCE),
    "code in torch's file": (lambda: saved({"model": {}, "x": Payload()}), SENTENCE),
    "code in place of a weight": (lambda: with_weights(first_as(lambda _: Payload())), SENTENCE),
    "code in torch's old file": (
        lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(Payload(), 2), SENTENCE),
    "NaN weight": (lambda: with_weights(first_as(lambda w: w * float("nan"))), SENTENCE),
    "infinite weight": (lambda: with_weights(first_as(lambda w: w / 0)), SENTENCE),
    "weight of another shape": (lambda: with_weights(first_as(lambda w: w[:1])), SENTENCE),
    "weight of another rank": (lambda: with_weights(first_as(lambda w: w.flatten())), SENTENCE),
    "weight of text": (lambda: with_weights(first_as(lambda _: "abc")), SENTENCE),
    "weight null": (lambda: with_weights(first_as(lambda _: None)), SENTENCE),
    "weight complex": (lambda: with_weights(first_as(lambda w: w.to(torch.complex64))), EITHER),
    "weight of whole numbers": (lambda: with_weights(first_as(lambda w: w.long())), EITHER),
    "weight sparse": (lambda: with_weights(first_as(lambda w: w.to_sparse())), EITHER),
    "half of the weights": (lambda: with_weights(half_of), SENTENCE),
    "no weights": (lambda: with_weights(lambda _: {}), SENTENCE),
    "other names": (
        lambda: with_weights(lambda w: {f"x.{k}": v for k, v in w.items()}), SENTENCE),
    "keys of numbers": (lambda: with_weights(lambda w: dict(enumerate(w.values()))), SENTENCE),
    "a list": (lambda: saved([1, 2, 3]), SENTENCE),
    "a tensor": (lambda: saved(torch.zeros(3)), SENTENCE),
    "model null": (lambda: saved({"model": None}), SENTENCE),
    "weights alone": (lambda: saved(weights()), EITHER),
    "zip without anything": (lambda: zip_of(), SENTENCE),
    "zip of something else": (lambda: zip_of(("readme.txt", b"hello")), SENTENCE),
    "zip that leads outside": (lambda: zip_of((f"../{CANARY}", b"x"), ("a/data.pkl", b"x")),
                               SENTENCE),
    "zip bomb": (lambda: zip_of(("a/data.pkl", b"\0" * 300_000_000)), SENTENCE),
    "deep pickle": (lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", SENTENCE),
    "pickle of a huge text": (lambda: b"\x80\x04\x8d" + (2**40).to_bytes(8, "little"), SENTENCE),
}  # fmt: skip


def to_load(content: Callable[[], bytes], folder: Path) -> list[str]:
    """Lay out a run with this checkpoint."""
    run = folder / "run"
    run.mkdir()
    (run / "config.yaml").write_text(CONFIG[0])
    (run / "model_final.pth").write_bytes(content())
    (run / "last_checkpoint").write_text("model_final.pth")
    return ["run"]


def to_convert(content: Callable[[], bytes], folder: Path) -> list[str]:
    """Lay out weights to convert."""
    (folder / "weights.pth").write_bytes(content())
    return ["resnet18", "out/converted.pkl", "--weights", "weights.pth"]


def damaged_checkpoint(number: int, seed: int) -> bytes:
    """Return the sound checkpoint, damaged in its first part, where its structure is."""
    head, tail = CHECKPOINT[0][:20000], CHECKPOINT[0][20000:]
    return list(damaged(head, seed, number + 1))[number] + tail


def as_pickle(content: Callable[[], bytes], folder: Path) -> list[str]:
    """Lay out a run whose checkpoint is named as Detectron2's model zoo names them."""
    to_load(content, folder)
    (folder / "run" / "model_final.pth").rename(folder / "run" / "model_final.pkl")
    (folder / "run" / "last_checkpoint").write_text("model_final.pkl")
    return ["run", "run/model_final.pkl"]


def cases(seed: int) -> Iterator[Case]:
    """Yield them."""
    for name, (content, wanted) in KINDS.items():
        yield Case("checkpoint", name, "load", partial(to_load, content), wanted)
        yield Case("weights to convert", name, "convert", partial(to_convert, content), SENTENCE)
    for name in ("code in a pickle", "code beside weights", "text", "cut off", "deep pickle"):
        build = partial(as_pickle, KINDS[name][0])
        yield Case("checkpoint .pkl", name, "load", build, SENTENCE)
    for number in range(12):
        build = partial(to_load, partial(damaged_checkpoint, number, seed))
        yield Case("damaged checkpoint", str(number), "load", build)
    for name in ("gone.pth", "../../run", "\n", "x" * 300):
        build = partial(_last_checkpoint, name)
        yield Case("last_checkpoint", name[:10].strip() or "newline", "load", build, EITHER)


def _last_checkpoint(name: str, folder: Path) -> list[str]:
    words = to_load(lambda: CHECKPOINT[0], folder)
    (folder / "run" / "last_checkpoint").write_text(name)
    return words
