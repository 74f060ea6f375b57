"""The training loader: one stream for any number of workers, from any iteration, on any rank."""

import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from torch.utils.data import Dataset, IterableDataset

from inspire_d2.data import build_train_loader, polyp_dataset
from inspire_d2.data import loader as loader_module
from inspire_d2.engine.config import load_config
from inspire_d2.errors import InputError

from .loader_helpers import as_it_is, assert_same, build, ids, noisy, records, take

POLYP = Path(__file__).resolve().parents[2] / "configs/polyp/mask_rcnn_r18_inspire.py"


@pytest.fixture(autouse=True)
def _no_warnings_of_forks() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork where there are threads
        yield


@pytest.mark.parametrize("grouping", [True, False])
def test_workers_change_nothing(grouping: bool) -> None:
    streams = []
    for workers in range(4):
        random.seed(workers)
        np.random.seed(workers)
        torch.manual_seed(workers)
        loader = build(aspect_ratio_grouping=grouping, num_workers=workers)
        loader.start(7, 3)
        streams.append(take(loader, 14))
    for stream in streams[1:]:
        assert_same(stream, streams[0])


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize(("count", "batch"), [(23, 4), (24, 4), (5, 8), (1, 3), (40, 1)])
def test_a_resumed_stream_is_the_tail(grouping: bool, count: int, batch: int) -> None:
    whole = take(build(count, batch, aspect_ratio_grouping=grouping), 40)
    for iteration in (0, 1, 2, 5, 6, 7, 29, 39):
        loader = build(count, batch, aspect_ratio_grouping=grouping)
        loader.start(0, iteration)
        assert_same(take(loader, 40 - iteration), whole[iteration:])


def test_a_start_holds_for_all_later_iterators() -> None:
    loader = build(num_workers=1, persistent_workers=True)
    first = take(loader, 3)
    assert_same(take(loader, 3), first)
    loader.start(1, 2)
    other = take(loader, 3)
    assert ids(other) != ids(first)
    assert_same(take(loader, 3), other)
    for another in (loader, build()):
        another.start(0, 2)
        begun = iter(another)
        another.start(1, 0)  # is of no concern to an iterator that is there
        assert_same([next(begun)], first[2:])


def test_skipping_maps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are the 21,600 epochs before shuffled: that would take seconds on a large data set."""
    mapped, shuffled = [], []
    shuffle = loader_module._Stream._epoch

    def counted(stream: Any, seed: int, epoch: int) -> Any:
        shuffled.append(epoch)
        return shuffle(stream, seed, epoch)

    monkeypatch.setattr(loader_module._Stream, "_epoch", counted)
    loader = build_train_loader(
        records(50), mapper=lambda one: mapped.append(one) or one, total_batch_size=4
    )
    loader.start(0, 270_000)
    assert mapped == []
    (batch,) = take(loader, 1)
    assert mapped == batch
    assert len(shuffled) < 5


def test_an_epoch_holds_each_image_once() -> None:
    loader = build(30, 4, aspect_ratio_grouping=False, mapper=as_it_is)
    stream = list(itertools.chain(*ids(take(loader, 60))))
    epochs = [stream[i : i + 30] for i in range(0, 240, 30)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_seeds_give_other_orders() -> None:
    orders = []
    # 2**32 and 2**32 + 1 share their lower or upper half with another
    for seed in (0, 1, 2**32, 2**32 + 1):
        loader = build(aspect_ratio_grouping=False)
        loader.start(seed, 0)
        orders.append(take(loader, 5))
    assert len({str(ids(one)) for one in orders}) == 4
    images = {str(one["image"]) for order in orders for batch in order for one in batch}
    assert len(images) == 4 * 5 * 4


def test_an_image_is_augmented_anew_each_time() -> None:
    loader = build(3, 3, aspect_ratio_grouping=False)
    drawn = torch.stack([one["image"] for batch in take(loader, 20) for one in batch])
    assert all(len(column.unique()) == 60 for column in drawn.T)
    # numbers of one position are not those of another generator or place
    uniform = drawn[:, [0, 2, 3, 5, 6]]
    assert len(uniform.unique()) == uniform.numel()
    assert 0.3 < uniform.mean() < 0.7


def test_order_and_augmentations_are_apart() -> None:
    """The order does not depend on whether there is grouping, or how much a mapper draws."""
    plain = ids(take(build(12, 12, aspect_ratio_grouping=False, mapper=as_it_is), 4))
    assert ids(take(build(12, 12, aspect_ratio_grouping=False), 4)) == plain


@pytest.mark.parametrize("workers", [0, 2])
def test_the_processs_own_random_numbers_are_left_alone(workers: int) -> None:
    random.gauss(0, 1)  # leaves the second of a pair for the next call
    np.random.randn()
    torch.randn(3)

    def state() -> tuple[Any, ...]:
        numpy = np.random.get_state()
        return (
            random.getstate(),
            numpy[1].tolist(),
            numpy[2:],
            torch.get_rng_state().tolist(),
            torch.initial_seed(),
        )

    before = state()
    loader = build(num_workers=workers)
    loader.start(3, 5)
    take(loader, 9)
    take(loader, 1)
    assert state() == before


def test_an_error_leaves_the_random_numbers_alone() -> None:
    def fail(record: dict[str, Any]) -> None:
        noisy(record)
        raise RuntimeError("broken")

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with pytest.raises(RuntimeError, match="broken"):
        take(build(mapper=fail), 1)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before


def the_first_ten(record: dict[str, Any]) -> dict[str, Any] | None:
    return noisy(record) if record["image_id"] < 10 else None


def test_another_image_stands_in_for_none() -> None:
    streams = []
    for workers in (0, 2):
        loader = build(
            20, 5, aspect_ratio_grouping=False, mapper=the_first_ten, num_workers=workers
        )
        streams.append(take(loader, 16))
    assert_same(*streams)
    resumed = build(20, 5, aspect_ratio_grouping=False, mapper=the_first_ten)
    resumed.start(0, 9)
    assert_same(take(resumed, 7), streams[0][9:])
    # What is mapped at once stays, what stands in comes from everywhere.
    plain = ids(take(build(20, 5, aspect_ratio_grouping=False), 16))
    stand_ins = []
    for before, after in zip(
        itertools.chain(*plain), itertools.chain(*ids(streams[0])), strict=True
    ):
        if before < 10:
            assert after == before
        else:
            stand_ins.append(after)
    assert len(stand_ins) == 40 and set(stand_ins) == set(range(10))


def test_a_mapper_that_returns_none_alone_is_told() -> None:
    with pytest.raises(InputError, match=r"mapper returned None for 1000 images one after another"):
        take(build(mapper=lambda record: None), 1)


class Squares(Dataset):
    """A map-style data set, not of dicts."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, index**2


def test_other_data_sets_and_collating() -> None:
    loader = build_train_loader(
        Squares(), mapper=None, total_batch_size=5, aspect_ratio_grouping=False
    )
    assert sorted(itertools.chain(*take(loader, 2))) == [(i, i * i) for i in range(10)]
    loader = build_train_loader(
        Squares(),
        mapper=lambda pair: pair[1],
        total_batch_size=5,
        aspect_ratio_grouping=False,
        collate_fn=sum,
    )
    assert sum(take(loader, 2)) == 285


class Endless(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ([], {}, r"dataloader\.train\.dataset has no images to train on\."),
        (Endless(), {}, r"IterableDataset.* take Detectron2's build_detection_train_loader"),
        (
            [{"width": 3, "height": 4}, {"width": 3}],
            {},
            r"image 1 .* width .* height .*grouping=False\.$",
        ),
        (Squares(), {}, r"image 0 .* no width and height .*\.aspect_ratio_grouping=False\.$"),
        (records(4), {"total_batch_size": 3}, r"size=3 must be a positive multiple of .*, 2\.$"),
        (records(4), {"total_batch_size": 0}, r"size=0 must be a positive multiple of .*, 2\.$"),
    ],
)
def test_wrong_input_is_one_sentence(
    dataset: Any, options: dict[str, Any], message: str, as_rank: Callable[[int, int], None]
) -> None:
    as_rank(0, 2)
    with pytest.raises(InputError, match=message) as error:
        build_train_loader(dataset, **{"mapper": as_it_is, "total_batch_size": 2, **options})
    assert "\n" not in str(error.value)


def test_a_start_before_the_first_iteration_is_refused() -> None:
    for seed, iteration in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="is below 0"):
            build().start(seed, iteration)


def refuse(record: dict[str, Any]) -> None:
    raise InputError(f"image {record['image_id']} is broken")


def test_a_workers_sentence_arrives_alone() -> None:
    with pytest.raises(InputError) as error:
        take(build(num_workers=1, mapper=refuse), 1)
    assert str(error.value).startswith("image ") and str(error.value).endswith(" is broken")
    assert "\n" not in str(error.value)


def test_real_polyps(shared_datasets: Path, tool: ModuleType, tmp_path: Path) -> None:
    """The polyp config's augmentations give the same pixels in a worker, from the middle on."""
    root = shared_datasets / "polypgen"
    if not root.is_dir():
        pytest.skip(f"no folder polypgen in {shared_datasets}")
    by_centre = ("--split-column", "centre", "--val-values", "C6")
    arguments = ("--layout", "polypgen", "--root", root, *by_centre, "--output", tmp_path)
    tool.main([str(argument) for argument in arguments])
    cfg = load_config(str(POLYP))
    dataset = polyp_dataset(tmp_path.name, str(tmp_path / "train.json"))
    mapper = instantiate(cfg.dataloader.train.mapper)

    def batches(iteration: int, count: int, workers: int) -> list[Any]:
        loader = build_train_loader(dataset, mapper=mapper, total_batch_size=2, num_workers=workers)
        loader.start(11, iteration)
        return take(loader, count)

    whole, tail = batches(0, 6, 0), batches(3, 3, 2)
    assert_same(tail, whole[3:])
    for one, other in zip(itertools.chain(*tail), itertools.chain(*whole[3:]), strict=True):
        if len(one["instances"]):
            assert torch.equal(one["instances"].gt_masks.tensor, other["instances"].gt_masks.tensor)
    # the sizes that a seed chooses differ from image to image
    assert len({one["image"].shape for batch in whole for one in batch}) > 1
