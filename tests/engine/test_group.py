"""Processes that do not belong together, or share a GPU, end the run."""

import pytest
import torch
from detectron2.utils import comm

from inspire_d2.engine import group
from inspire_d2.engine.group import check_group
from inspire_d2.errors import InputError


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Changes by which each further rank differs from what this process says of itself."""
    changes: list[dict[str, object]] = []
    monkeypatch.setattr(comm, "all_gather", lambda own: [own, *({**own, **c} for c in changes)])
    return changes


def test_says_what_each_rank_runs_on(others: list[dict[str, object]]) -> None:
    others.append({"rank": 1, "host": "n2", "pid": 7, "device": "cuda:0 H100", "uuid": "a"})
    lines = check_group("job config", "cpu")
    assert len(lines) == 2
    assert lines[0].startswith("rank 0 of 2: ") and lines[0].endswith(
        f"CPU, {torch.get_num_threads()} threads"
    )
    assert lines[1] == "rank 1 of 2: n2, process 7, cuda:0 H100"


def test_ranks_of_another_run_are_named(others: list[dict[str, object]]) -> None:
    others += [{"rank": 1}, {"rank": 2, "host": "n2", "identity": "job2 config"}]
    with pytest.raises(InputError, match=r"rank 2 on n2 is of another run .*job2 config.*rank 0"):
        check_group("job config", "cpu")


def test_two_ranks_on_one_gpu(
    others: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "_device", lambda name: {"device": "cuda:0 X", "uuid": "a"})
    others += [{"rank": 1, "host": "n2"}, {"rank": 2, "host": "n2", "uuid": "b"}]
    check_group("job", None)
    others.append({"rank": 3, "host": "n2"})
    with pytest.raises(InputError, match=r"ranks 1 and 3 on n2 share a GPU \(cuda:0 X\)"):
        check_group("job", None)
