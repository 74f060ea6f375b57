"""Runs to report on, written once and read only."""

from pathlib import Path

import pytest

from .runs import write_run, write_set


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs scored on one set of 24 images."""
    folder = tmp_path_factory.mktemp("report")
    json_file = write_set(folder / "data", 24)
    name = f"report_test_{folder.name}"
    return tuple(write_run(folder / f"<b>run{k}", json_file, name, seed=k) for k in (1, 2))
