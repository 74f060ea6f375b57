"""The cluster of a session of tests, its data, and trainings that several tests look at.

Everything here is marked cluster and slow. It runs as root where Slurm is installed and SLURM_LAB,
by default ../shared/slurm_lab beside the checkout, names the folder of start_slurm.sh.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspire_d2.data import prepare, splits
from inspire_d2.data.synthetic import write_synthetic_set

from .job import Job
from .lab import ROOT, Lab, obstacle

# As tools/ itself does: it is not installed.
sys.path.insert(0, str(ROOT))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cluster of two nodes, n1 and n2; skips where none can be started."""
    scripts = Path(os.environ.get("SLURM_LAB") or ROOT.parent / "shared" / "slurm_lab")
    if reason := obstacle(scripts):
        pytest.skip(reason)
    lab = Lab(scripts, tmp_path_factory.mktemp("slurm"))
    try:
        lab.start()
        yield lab
    finally:
        lab.stop()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that name a set of 16 synthetic images."""
    root = tmp_path_factory.mktemp("synthetic")
    write_synthetic_set(root, 16, seed=0, size=96)
    prepare.prepare_polyps("kvasir", root, splits.RatioSplit(0.75, 0), root / "annotations")
    return [
        f"dataloader.{split}.dataset={{name:cluster_{name},"
        f"json_file:{root}/annotations/{name}.json}}"
        for split, name in (("train", "train"), ("test", "val"))
    ]


@pytest.fixture(scope="session")
def two_nodes(lab: Lab, data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A training of two nodes with two processes each, from its begin to its end."""
    job = lab.train(data, tmp_path_factory.mktemp("two_nodes") / "run", nodes=2)
    job.wait()
    return job


@pytest.fixture(scope="session")
def side_by_side(
    lab: Lab, data: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, Job]:
    """Two trainings of two processes each, on one node at one time."""
    folder = tmp_path_factory.mktemp("side_by_side")
    first, second = (
        lab.train(data, folder / name, hold=True, sbatch=("--nodelist=n1",)) for name in "ab"
    )
    # Both have found each other's processes, and neither has left.
    for job in (first, second):
        job.wait_held(2)
    for job in (first, second):
        job.release()
    for job in (first, second):
        job.wait()
    return first, second
