"""What the training loader costs: this project's beside Detectron2's, on a config's data."""

import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import instantiate
from detectron2.data import build_detection_train_loader

from inspire_d2.data import build_train_loader
from inspire_d2.engine.config import load_config
from inspire_d2.errors import InputError

from .alternate import alternate
from .arithmetic import paired_ratios, spread
from .runner import progress
from .tables import number, table

__all__ = ["LoaderCosts", "loader_table", "measure_loaders"]

REFERENCE = "Detectron2's"
LOADERS: dict[str, Callable[..., Any]] = {
    REFERENCE: build_detection_train_loader,
    "resumable": build_train_loader,
}
WORKERS = (0, 1)
NOTE = (
    "Milliseconds an image: medians of rounds in which every loader gives each image once, from its"
    " start on. Times as long: the median of each round's ratio to Detectron2's (quartiles). CPU is"
    " the process's own, and so only without workers all of it."
)


@dataclass
class LoaderCosts:
    """What has been measured so far: seconds of each round, by workers and loader."""

    environment: dict[str, object]
    config_file: str
    images: int = 0
    batch_size: int = 0
    seconds: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    cpu_seconds: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all of it, raw values included, as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def measure_loaders(costs: LoaderCosts, images: int, rounds: int, warmup: int) -> Iterator[None]:
    """Fill in the costs, loader by loader in turn, on some ``images``; yield after each part.

    Raises:
        InputError: the config or its training data cannot be used.
    """
    train = load_config(costs.config_file).dataloader.train
    mapper, batch_size = _SameForAll(instantiate(train.mapper)), train.total_batch_size
    dataset = _whole_batches(instantiate(train.dataset), images, batch_size)
    costs.images, costs.batch_size = len(dataset), batch_size
    for workers in WORKERS:
        seconds = costs.seconds[workers] = {name: [] for name in LOADERS}
        cpu_seconds = costs.cpu_seconds[workers] = {name: [] for name in LOADERS}
        opened: list[tuple[Iterator[Any], float]] = []  # with the CPU's seconds

        def loading(name: str, workers: int = workers, opened: list = opened) -> Callable[[], None]:
            loader = LOADERS[name](
                dataset, mapper=mapper, total_batch_size=batch_size, num_workers=workers
            )

            def step() -> None:
                start = time.process_time()
                batches = iter(loader)
                for _ in range(len(dataset) // batch_size):
                    next(batches)
                opened.append((batches, time.process_time() - start))

            return step

        timed = alternate({name: loading(name) for name in LOADERS}, rounds, warmup)
        total = (rounds + warmup) * len(LOADERS)
        for index, name, value in progress(timed, total, f"{workers} workers"):
            _, cpu = opened.pop()  # which stops its workers, outside what is timed
            if index >= 0:
                seconds[name].append(value)
                cpu_seconds[name].append(cpu)
        yield


class _SameForAll:
    """A mapper that augments an image in one way alone, so that loaders differ by nothing else."""

    def __init__(self, mapper: Callable[[dict[str, Any]], Any]) -> None:
        self._mapper = mapper

    def __call__(self, one: dict[str, Any]) -> Any:
        np.random.seed(zlib.crc32(one["file_name"].encode()))
        return self._mapper(one)


def _whole_batches(dataset: list[dict[str, Any]], count: int, batch: int) -> list[dict[str, Any]]:
    """Choose about ``count`` images, spread over the set, that grouping leaves no rest of."""
    some = dataset[:: max(1, len(dataset) // count)][:count]
    wide = [one for one in some if one["width"] > one["height"]]
    high = [one for one in some if one["width"] <= one["height"]]
    chosen = [one for group in (wide, high) for one in group[: len(group) // batch * batch]]
    if not chosen:
        raise InputError(f"{count} images of the training set are not one batch of {batch}.")
    return chosen


def loader_table(costs: LoaderCosts) -> str:
    """Lay out one table: a row for each number of workers and loader."""
    rows = []
    for workers, by_loader in costs.seconds.items():
        for name in by_loader:
            row = [str(workers), name]
            for measured in (costs.seconds[workers], costs.cpu_seconds[workers]):
                values = measured[name]
                ratios = paired_ratios(values, measured[REFERENCE])
                per_image = number(1e3 * spread(values).median / costs.images) if values else "-"
                row += [per_image, _quartiles(ratios) if ratios else "-"]
            rows.append(row)
    rounds = max((len(v) for by in costs.seconds.values() for v in by.values()), default=0)
    heading = (
        f"### Loading {costs.images} images of {Path(costs.config_file).name},"
        f" {costs.batch_size} a batch (rounds: {rounds})"
    )
    environment = "; ".join(f"{key} {value}" for key, value in costs.environment.items())
    header = ["workers", "loader", "ms", "times as long", "CPU ms", "times as much"]
    return "\n\n".join([heading, f"{environment}.", table(header, rows), NOTE]) + "\n"


def _quartiles(ratios: list[float]) -> str:
    low, median, high = (f"{value:.3f}" for value in spread(ratios))
    return f"{median} ({low}-{high})"
