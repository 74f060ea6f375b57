"""Volumes shared between two processes score what one process with all of them scores."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.utils import comm

from inspire_d2.errors import InputError
from inspire_d2.evaluation import VolumeEvaluator

pytestmark = pytest.mark.skipif(
    find_spec("monai") is None, reason="needs MONAI, of the extra medical"
)

REGIONS = {"WT": [1, 2], "TC": [1]}
CASES = (0, 1, 2, 3, 4)
# The cases of the first and of the second process.
SHARES = {
    "half": ((0, 1, 2), (3, 4)),
    "mixed": ((4, 2, 0), (3, 1)),
    "padded": ((0, 1, 2), (3, 4, 0)),
    "all on the first": (CASES, ()),
    "all on the second": ((), CASES),
    "no label on the first": ((5,), CASES),
    "no label": ((5,), ()),
    "no volume": ((), ()),
}


def volume(case: int) -> tuple[dict, dict]:
    """A random volume of one of three patients; case 5 has no label."""
    rng = np.random.default_rng(case)
    label = rng.integers(0, 3, (3, 5, 6)).astype(np.uint8)
    item = {
        "case": f"case{case}",
        "patient": f"patient{case // 2}",
        "labels": [1, 2],
        "shape": [5, 6, 3],
        "spacing": [1.0, 2.0, 4.0],
        "axis": 2,
    }
    if case != 5:
        item["label"] = label
    return item, {"sem_seg": torch.from_numpy(rng.random((2, 3, 5, 6)).astype(np.float32))}


def evaluate(cases: tuple[int, ...], distributed: bool, output_dir: Path) -> dict:
    evaluator = VolumeEvaluator(
        "ranks", REGIONS, output_dir=str(output_dir), distributed=distributed
    )
    for case in cases:
        item, output = volume(case)
        evaluator.process([item], [output])
    return evaluator.evaluate()


def _score_shares(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2
    )
    comm.create_local_process_group(2)
    found = {}
    for name, shares in SHARES.items():
        try:
            found[name] = evaluate(shares[rank], True, folder / name / str(rank))
        except InputError as error:
            found[name] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each of two processes found of each share, and what one found of all, in "alone"."""
    path = tmp_path_factory.mktemp("ranks")
    alone = evaluate(CASES, False, path / "alone")
    (path / "alone.json").write_text(json.dumps(alone))
    # Forked: a spawned process would import torch and MONAI anew, which is slow.
    mp.start_processes(_score_shares, args=(path,), nprocs=2, start_method="fork")
    return path


def found_by_both(folder: Path, name: str) -> list:
    return [json.loads((folder / f"{rank}.json").read_text())[name] for rank in (0, 1)]


@pytest.mark.parametrize("name", list(SHARES)[:6])
def test_two_processes_score_what_one_does(folder: Path, name: str) -> None:
    main, other = found_by_both(folder, name)
    expected = json.loads((folder / "alone.json").read_text())
    assert 0.2 < expected["volume"]["Dice"] < 0.8 and expected["volume"]["WT patients"] == 3
    assert main == expected and other == {}
    rows = (folder / "alone" / "volume_per_case.json").read_text()
    assert (folder / name / "0" / "volume_per_case.json").read_text() == rows
    assert not (folder / name / "1").exists()


def test_nothing_to_score_is_told_by_both(folder: Path) -> None:
    for message in found_by_both(folder, "no label"):
        assert "none of the 1 volumes of 'ranks' has a label" in message
    for message in found_by_both(folder, "no volume"):
        assert "no volume of 'ranks' was evaluated" in message
