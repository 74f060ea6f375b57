"""A training loader whose batches depend on the seed, the iteration and the rank alone.

The number of workers changes nothing, nor does where a run was interrupted: what is trained on at
iteration i is the same, augmentations included, and a loader that starts at i opens no image
before it. Positions count the samples of the endless, shuffled stream that all processes share.
"""

import contextlib
import hashlib
import itertools
import math
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.utils.data as torchdata
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from detectron2.utils.serialize import PicklableWrapper

from inspire_d2.errors import InputError

__all__ = ["ResumableLoader", "build_train_loader"]

# So many that a mapper may refuse nine images in ten for a whole training.
_MAX_ATTEMPTS = 1000


def build_train_loader(
    dataset: list[dict[str, Any]] | torchdata.Dataset,
    *,
    mapper: Callable[[Any], Any] | None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    **options: Any,
) -> "ResumableLoader":
    """Build this process's share of an endless, shuffled, resumable stream of batches.

    Takes what Detectron2's build_detection_train_loader takes, but for ``sampler`` and iterable
    data sets. ``total_batch_size`` is over all processes. With ``aspect_ratio_grouping`` a batch's
    images are all wider than high or all not; each element of the data set is read once for it, so
    it must be a dict with width and height, and cheap to read. Where the mapper returns None, it is
    given another image instead, of any shape. ``collate_fn`` runs in this process. ``options`` are
    torch's DataLoader's (pin_memory ...); prefetch_factor is in images, by default two batches.

    Raises:
        InputError: the data set is empty, iterable or without width and height to group by, or
            the batch is not a multiple of the processes.
    """
    world_size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world_size:
        raise InputError(
            f"dataloader.train.total_batch_size={total_batch_size} must be a positive multiple of "
            f"the number of processes, {world_size}."
        )
    if isinstance(dataset, torchdata.IterableDataset):
        raise InputError(
            "dataloader.train.dataset is an IterableDataset, whose images cannot be asked for by "
            "number: take Detectron2's build_detection_train_loader, which cannot resume it."
        )
    if not len(dataset):
        raise InputError("dataloader.train.dataset has no images to train on.")
    shapes = _shapes(dataset) if aspect_ratio_grouping else np.zeros(len(dataset), np.int64)
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)  # in memory that workers share
    batch_size = total_batch_size // world_size
    if num_workers > 0:
        options.setdefault("prefetch_factor", max(2, math.ceil(2 * batch_size / num_workers)))
    loader = torchdata.DataLoader(
        _MappedDataset(dataset, mapper),
        # One image at a time, so that all workers share in each batch.
        batch_size=None,
        sampler=_Sampler(_Stream(shapes, batch_size), comm.get_rank(), world_size),
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # the process's own is left as it is
        **options,
    )
    return ResumableLoader(loader, batch_size, collate_fn)


class ResumableLoader:
    """Batches without end, made by :func:`build_train_loader`.

    It yields list[mapped] of the process's batch size, or what collate_fn makes of it.
    """

    def __init__(
        self,
        loader: torchdata.DataLoader,
        batch_size: int,
        collate_fn: Callable[[list[Any]], Any] | None,
    ) -> None:
        self._loader = loader
        self._batch_size = batch_size
        self._collate_fn = collate_fn

    def start(self, seed: int, iteration: int) -> None:
        """Set where each iter() from now on begins; before any call, that is seed 0, iteration 0.

        Both are 0 or more and the same on all ranks; iterations count from 0.
        """
        if seed < 0 or iteration < 0:
            raise ValueError(f"seed {seed} or iteration {iteration} is below 0")
        self._loader.sampler.seed, self._loader.sampler.iteration = seed, iteration

    def __iter__(self) -> Iterator[Any]:
        # Not a generator itself: where to start is read now, not when the first batch is asked for.
        return self._batches(iter(self._loader))

    def _batches(self, samples: Iterator[Any]) -> Iterator[Any]:
        while True:
            with _random_states_kept():
                batch = [next(samples) for _ in range(self._batch_size)]
            yield batch if self._collate_fn is None else self._collate_fn(batch)


def _as_it_is(sample: Any) -> Any:
    return sample


class _Draw(NamedTuple):
    """One sample of the stream: what is needed to make it, in any process."""

    seed: int
    position: int
    index: int  # in the data set


class _Sampler:
    """The samples of one process, from an iteration on."""

    def __init__(self, stream: "_Stream", rank: int, world_size: int) -> None:
        self.stream = stream
        self.rank, self.world_size = rank, world_size
        self.seed = self.iteration = 0

    def __iter__(self) -> Iterator[_Draw]:
        first = self.iteration * self.world_size + self.rank
        batches = self.stream.batches(self.seed, first, self.world_size)
        return itertools.chain.from_iterable(batches)


class _Stream:
    """The order of all samples, and how they form batches.

    Epochs follow each other, each another permutation of the data set. Samples wait with those of
    their shape, 0 to S - 1; a batch leaves when ``batch_size`` of a shape are there. What waits at
    the end of an epoch waits on in the next. Batch i x world size + rank is iteration i's: with
    one shape, all of an iteration are the same samples for any number of processes.
    """

    def __init__(self, shapes: np.ndarray, batch_size: int) -> None:
        self.shapes = shapes  # of each image: (N,), int64
        self.batch_size = batch_size
        self.counts = np.bincount(shapes).tolist()  # of images of each shape

    def batches(self, seed: int, first: int, step: int) -> Iterator[list[_Draw]]:
        """Yield the batches first, first + step, first + 2 step ..."""
        # at the earliest, where no sample is left waiting
        epoch = first * self.batch_size // len(self.shapes)
        done = self._batches_before(epoch)
        waiting = self._waiting(seed, epoch)
        number = first
        while True:
            whole = []
            for shape, samples in enumerate(self._epoch(seed, epoch)):
                samples = np.concatenate([waiting[shape], samples])
                end = len(samples) // self.batch_size * self.batch_size
                whole.append(samples[:end].reshape(-1, self.batch_size, 2))
                waiting[shape] = samples[end:]
            batches = np.concatenate(whole)
            batches = batches[batches[:, -1, 0].argsort()]  # as they leave: by their last position
            for batch in batches[number - done :: step]:
                yield [_Draw(seed, position, index) for position, index in batch.tolist()]
                number += step
            done += len(batches)
            epoch += 1

    def _epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Return each shape's samples in order: rows of (position, index), int64."""
        sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
        # RandomState, unlike Generator, is promised to give the same numbers in all of numpy.
        shuffler = np.random.RandomState(np.random.MT19937(sequence))
        size = len(self.shapes)
        indices = shuffler.permutation(size)
        samples = np.stack([np.arange(epoch * size, (epoch + 1) * size), indices], axis=1)
        shapes = self.shapes[indices]
        return [samples[shapes == shape] for shape in range(len(self.counts))]

    def _batches_before(self, epoch: int) -> int:
        """Count the batches that have left when an epoch begins."""
        return sum(epoch * count // self.batch_size for count in self.counts)

    def _waiting(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Return the samples of each shape that wait when an epoch begins, from earlier ones."""
        lacking = [epoch * count % self.batch_size for count in self.counts]
        waiting = [np.empty((0, 2), np.int64) for _ in self.counts]
        while any(lacking):
            epoch -= 1
            for shape, samples in enumerate(self._epoch(seed, epoch)):
                last = samples[len(samples) - min(lacking[shape], len(samples)) :]
                waiting[shape] = np.concatenate([last, waiting[shape]])
                lacking[shape] -= len(last)
        return waiting


def _shapes(dataset: list[Any] | torchdata.Dataset) -> np.ndarray:
    """Return 0 for each image that is wider than high, 1 for others: (N,), int64."""
    shapes = np.empty(len(dataset), np.int64)
    for index in range(len(dataset)):
        one = dataset[index]
        if not (isinstance(one, dict) and "width" in one and "height" in one):
            raise InputError(
                f"image {index} of dataloader.train.dataset has no width and height to group it "
                "by: set dataloader.train.aspect_ratio_grouping=False."
            )
        shapes[index] = 0 if one["width"] > one["height"] else 1
    return shapes


class _MappedDataset(torchdata.Dataset):
    """A data set and its mapper: a pure function from draws to mapped samples.

    That holds for what draws its random numbers from ``random``, ``numpy.random`` or torch's CPU
    generator, which it seeds.
    """

    def __init__(self, dataset: torchdata.Dataset, mapper: Callable[[Any], Any] | None) -> None:
        self._dataset = dataset
        # so that a lambda, too, reaches workers that are spawned
        self._mapper = None if mapper is None else PicklableWrapper(mapper)

    def __getitem__(self, draw: _Draw) -> Any:
        index = draw.index
        for attempt in range(_MAX_ATTEMPTS):
            key = b"%d %d %d" % (draw.seed, draw.position, attempt)
            # a tenth of the time of a SeedSequence
            digest = hashlib.blake2b(key, digest_size=24).digest()
            python, torch_, numpy, other = struct.unpack("<QQII", digest)
            if attempt:
                index = other % len(self._dataset)
            random.seed(python)
            np.random.seed(numpy)
            # torch.manual_seed would seed CUDA's generators, too
            torch.default_generator.manual_seed(torch_)
            mapped = self._dataset[index]
            if self._mapper is not None:
                mapped = self._mapper(mapped)
            if mapped is not None:
                return mapped
        raise InputError(
            f"dataloader.train.mapper returned None for {_MAX_ATTEMPTS} images one after another: "
            "it must return what the model is to be trained on."
        )


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Put the process's three generators back to where they were.

    Around a batch, not an image: numpy's state alone takes 0.1 ms.
    """
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
