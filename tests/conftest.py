"""What every test shares: fixed seeds, and the real data where it is to be had."""

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from .browser import browser

__all__ = ["browser"]  # a fixture of a file of its own


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file, which share fixtures, in one process; so those of the cluster."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/cluster" if file.startswith("tests/cluster/") else file

    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests, so that no process is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _seed_everything() -> None:
    """Give each test the same random numbers, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """Take back what a run sets up: its handlers write to streams that end with the test."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "inspire_d2")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """The folder of real data sets, named by DETECTRON2_DATASETS; skips where there is none."""
    folder = os.environ.get("DETECTRON2_DATASETS")
    if not folder:
        pytest.skip("DETECTRON2_DATASETS is not set: no real data to test on")
    path = Path(folder).expanduser()
    if not path.is_dir():
        pytest.skip(f"DETECTRON2_DATASETS={folder} is not a folder: no real data to test on")
    return path
