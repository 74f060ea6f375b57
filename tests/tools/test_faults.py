"""The fault bench: a run of it, what it tells, what it takes for a difference, wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools import faults
from tools.faulty.comparison import differences

ROOT = Path(__file__).resolve().parents[2]


def write_run(folder: Path, weight: float = 0.0, loss: float = 1.0, ap: float = 5.0) -> Path:
    """Write what two iterations of a training leave."""
    folder.mkdir()
    checkpoint = {
        "model": {"weight": torch.tensor([weight, 1.0])},
        "trainer": {"optimizer": {"state": {0: {"step": torch.tensor(2.0)}}}},
        "iteration": 1,
    }
    torch.save(checkpoint, folder / "model_final.pth")
    lines = [
        {"iteration": 0, "total_loss": 2.0, "time": len(folder.name)},
        {"iteration": 1, "total_loss": loss},
        {"iteration": 2, "bbox/AP": float("nan")},
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "evaluation.json").write_text(json.dumps({"bbox": {"AP": ap}}))
    return folder


def test_equal_runs_have_no_difference(tmp_path: Path) -> None:
    assert differences(write_run(tmp_path / "one"), write_run(tmp_path / "another")) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weight": 1e-7}, "model_final.pth: model: weight: tensors differ by up to 1e-07"),
        ({"loss": 1 + 1e-15}, "metrics.json: iteration 1: total_loss: 1.0 and 1.00000000000000"),
        ({"ap": 4.0}, "evaluation.json: bbox: AP: 5.0 and 4.0"),
    ],
)
def test_the_least_difference_is_told(change: dict[str, float], told: str, tmp_path: Path) -> None:
    (found,) = differences(write_run(tmp_path / "one"), write_run(tmp_path / "other", **change))
    assert found.startswith(told)


def test_iterations_lost_or_written_twice_are_told(tmp_path: Path) -> None:
    whole, other = write_run(tmp_path / "whole"), write_run(tmp_path / "other")
    metrics = other / "metrics.json"
    first, second, *_ = metrics.read_text().splitlines()
    metrics.write_text(f"{first}\n")
    assert differences(whole, other) == ["metrics.json: the second has no iteration 1"]
    metrics.write_text(f"{first}\n{second}\n{second}\n")
    assert differences(whole, other) == [f"{metrics} has iteration 1 twice"]
    metrics.write_text(f"{first}\n{second[:9]}")
    assert differences(whole, other) == [f"{metrics} has a broken line"]
    (other / "model_final.pth").unlink()
    assert f"{other / 'model_final.pth'} is not there" in differences(whole, other)


class FakeBench:
    """One whose second run differs and whose third the user interrupts."""

    duration = 1.0

    def __init__(self, args: object) -> None:
        pass

    def run(self, number: int) -> faults.Run:
        if number == 3:
            raise KeyboardInterrupt
        kills = [faults.Kill("rank 1", 2.0, 0, ""), faults.Kill("launcher", 3.0, 7, "x.pth", True)]
        return faults.Run(number, kills[:number], 9.0, ["it differs"] if number == 2 else [])


@pytest.mark.parametrize(("runs", "code"), [(1, None), (2, 1), (3, 1)])
def test_what_is_told(
    runs: int,
    code: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(faults, "Bench", FakeBench)
    words = ["--runs", str(runs), "--output", str(tmp_path / "out")]
    if code is None:
        faults.main(words)
    else:
        with pytest.raises(SystemExit) as stop:
            faults.main(words)
        assert stop.value.code == code
    told = capsys.readouterr()
    assert "run 1 of" in told.out and "rank 1 at 2.0 s (no checkpoint yet): equal" in told.out
    assert ("interrupted" in told.err) == (runs == 3)
    counts = json.loads((tmp_path / "out" / "faults.json").read_text())["counts"]
    done = min(runs, 2)
    assert counts["runs"] == done and counts["runs equal to the one never stopped"] == 1
    assert counts["kills"] == (1 if done == 1 else 3)
    assert counts["while a checkpoint was written"] == counts["of the launcher"] == done - 1


def test_a_link_to_the_output_is_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").symlink_to("scratch")
    for _ in range(2):
        faults.prepare_folder(tmp_path / "out")
        (tmp_path / "scratch" / "left").touch()
    assert (tmp_path / "out").is_symlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "0"], "--runs 0: must be 1 or more."),
        (["--processes", "0"], "--processes 0: must be 1 or more."),
        (["--iterations", "-1"], "--iterations -1: must be 1 or more."),
        (["--at-writes", "2"], "--at-writes 2.0: not a share"),
        (["--output", "file"], "--output file: "),
        (["--output", "."], "holds files that this tool has not made"),
    ],
)
def test_wrong_input(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as error:
        faults.main(["--output", "out", *words])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_that_is_killed(tmp_path: Path) -> None:
    # of this seed one kill, of the last rank
    words = ["--runs", "1", "--processes", "2", "--iterations", "4", "--period", "2", "--seed", "6"]
    done = subprocess.run(
        [sys.executable, ROOT / "tools/faults.py", *words, "--output", tmp_path / "out"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "never stopped: 4 iterations" in done.stdout and ": equal, " in done.stdout
    content = json.loads((tmp_path / "out" / "faults.json").read_text())
    assert content["counts"]["kills"] >= 1
    assert content["counts"]["runs equal to the one never stopped"] == 1
