"""Batches of one shape, and one stream for several processes."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from detectron2.data.common import AspectRatioGroupedDataset

from inspire_d2.data import build_train_loader

from .loader_helpers import as_it_is, assert_same, ids, noisy, records, take


@pytest.mark.parametrize(
    ("count", "wide", "batch"), [(23, 7, 4), (24, 12, 4), (9, 1, 4), (6, 0, 5), (6, 6, 4)]
)
def test_groups_are_detectron2s(count: int, wide: int, batch: int) -> None:
    stream = build_train_loader(
        records(count, wide), mapper=as_it_is, total_batch_size=1, aspect_ratio_grouping=False
    )
    expected = AspectRatioGroupedDataset((batch[0] for batch in stream), batch)
    grouped = build_train_loader(records(count, wide), mapper=as_it_is, total_batch_size=batch)
    assert take(grouped, 60) == list(itertools.islice(expected, 60))
    assert all(len({one["width"] for one in batch}) == 1 for batch in take(grouped, 60))


@pytest.mark.parametrize("grouping", [True, False])
def test_ranks_share_one_stream(grouping: bool, as_rank: Callable[[int, int], None]) -> None:
    """24 images, 9 of them landscapes, 4 a batch and process; 3 epochs are 18 batches."""
    data = records(24, 8)

    def streams(world_size: int, batch: int, iterations: int) -> list[list[Any]]:
        found = []
        for rank in range(world_size):
            as_rank(rank, world_size)
            loader = build_train_loader(
                data, mapper=noisy, total_batch_size=batch, aspect_ratio_grouping=grouping
            )
            found.append(take(loader, iterations))
        return found

    ours = streams(2, 8, 9)
    together = [batch for iteration in zip(*ours, strict=True) for batch in iteration]
    # the same batches as one process would have, dealt out in turn
    (alone,) = streams(1, 4, 18)
    assert_same(together, alone)
    assert all(len(batch) == 4 for batch in together)
    # none is seen twice: after each number of whole epochs, every image that often
    counts = Counter(itertools.chain(*ids(together)))
    assert counts == dict.fromkeys(range(24), 3)
    if grouping:
        assert all(len({one["width"] for one in batch}) == 1 for batch in together)
    else:
        # an iteration is of the same samples for any number of processes
        (wide,) = streams(1, 8, 9)
        merged = [one + other for one, other in zip(*ours, strict=True)]
        assert_same(merged, wide)
    as_rank(1, 2)
    resumed = build_train_loader(
        data, mapper=noisy, total_batch_size=8, aspect_ratio_grouping=grouping
    )
    resumed.start(0, 5)
    assert_same(take(resumed, 4), ours[1][5:])


def test_no_image_is_twice_in_an_epoch_of_groups(as_rank: Callable[[int, int], None]) -> None:
    """15 of one shape and 7 of the other: what waits at an epoch's end is seen in the next."""
    batches = []
    for rank in range(2):
        as_rank(rank, 2)
        loader = build_train_loader(records(22, 7), mapper=as_it_is, total_batch_size=8)
        batches.append(ids(take(loader, 100)))
    stream = [one for both in zip(*batches, strict=True) for batch in both for one in batch]
    for shape, size in ((range(7), 7), (range(7, 22), 15)):
        seen = [one for one in stream if one in shape]
        epochs = [seen[i : i + size] for i in range(0, len(seen) - size, size)]
        assert len(epochs) > 30
        assert all(sorted(epoch) == list(shape) for epoch in epochs)
