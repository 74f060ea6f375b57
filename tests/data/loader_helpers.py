"""Small streams of images, and what to compare of them."""

import itertools
import random
from typing import Any

import numpy as np
import torch

from inspire_d2.data import ResumableLoader, build_train_loader


def records(count: int, wide: int | None = None) -> list[dict[str, Any]]:
    """Make dicts of ``count`` images; ``wide`` of them, a third by default, are landscapes.

    Of the others, every second is a square.
    """
    wide = count // 3 if wide is None else wide
    landscapes = [{"image_id": i, "width": 40, "height": 30} for i in range(wide)]
    others = [{"image_id": i, "width": 30, "height": 30 + i % 2} for i in range(wide, count)]
    return landscapes + others


def noisy(record: dict[str, Any]) -> dict[str, Any]:
    """Map a dict to an "image" that holds a draw of each generator, of integers and normals."""
    drawn = [random.random(), random.gauss(0, 1), *np.random.rand(2), np.random.randn()]
    drawn += [*torch.rand(2).tolist(), torch.randn(()).item()]
    return {**record, "image": torch.tensor(drawn)}


def as_it_is(record: Any) -> Any:
    return record


def take(loader: ResumableLoader, count: int) -> list[Any]:
    return list(itertools.islice(loader, count))


def ids(batches: list[list[dict[str, Any]]]) -> list[list[int]]:
    return [[one["image_id"] for one in batch] for batch in batches]


def assert_same(ours: list[list[dict[str, Any]]], theirs: list[list[dict[str, Any]]]) -> None:
    assert ids(ours) == ids(theirs)
    for one, other in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert torch.equal(one["image"], other["image"])


def build(count: int = 23, batch: int = 4, **options: Any) -> ResumableLoader:
    return build_train_loader(
        records(count), **{"mapper": noisy, "total_batch_size": batch, **options}
    )
