"""A study's runs: how far they are, why one failed, and what a stop leaves."""

import argparse
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import tools.study
from tools.study import VARIANTS, Run

from .studying import IMAGES, ROOT, finish, study


def start(*arguments: object) -> subprocess.Popen:
    """Start a study that heeds Ctrl-C, which a shell's background jobs ignore, and hand that on."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "study.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def read_until(process: subprocess.Popen, text: str) -> None:
    """Read its stderr to the line that holds the text."""
    while text not in process.stderr.readline():
        assert process.poll() is None


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_shows_what_is_finished(stop: int, weights: Path, output: Path) -> None:
    finish(output, "C1", "plain", 0, [0.5] * IMAGES)
    process = start("--weights", weights, "--output", output, "--centres", "C1",
                    "--seeds", 0, 1, "--variants", "plain")  # fmt: skip
    read_until(process, "2 runs, 1 of them")
    time.sleep(1)
    process.send_signal(stop)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert "| plain | 1 |" in out
    commands = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    assert not any(str(output) in word for command in commands for word in command)


def test_interrupt_before_the_table_says_how_to_get_it(weights: Path, output: Path) -> None:
    finish(output, "C1", "plain", 0, [0.5] * IMAGES)
    process = start("--weights", weights, "--output", output, "--centres", "C1",
                    "--seeds", 0, "--variants", "plain")  # fmt: skip
    read_until(process, "writing the table")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on, and writes the table" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("last", [None, "model_0000124.pth"])
def test_a_run_that_failed_at_its_end_is_not_finished(
    last: str | None, weights: Path, output: Path
) -> None:
    finish(output, "C1", "plain", 0, [0.5] * IMAGES)
    file = output / "runs/semantic/C1/plain/seed0/last_checkpoint"
    file.write_text(last) if last else file.unlink()
    done = study("--weights", weights, "--output", output, "--centres", "C1", "--seeds", 0,
                 "--variants", "plain", "--dry-run")  # fmt: skip
    assert "1 runs, 0 of them finished" in done.stderr
    assert ("--resume" in done.stdout) == bool(last)


def test_why_a_run_failed_is_told(weights: Path, output: Path) -> None:
    done = study("--weights", weights, "--output", output, "--centres", "C1", "--seeds", 0,
                 "--define", "none", "plain", "train.init_checkpoint=none.pth",
                 "--variants", "none", "--baseline", "none")  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"C1/none/seed0 FAILED: .*none\.pth.*\. \(log: ", done.stderr)

    folder = output / "runs/semantic/C1/none/seed0"
    (folder / "study.log").write_text("Traceback\nMemoryError\n")
    run = Run("semantic", "none", VARIANTS["plain"], "C1", 0, folder, output / "data")
    assert run.failure() == f"see {folder / 'study.log'}"


def test_it_says_how_far_the_runs_are(
    weights: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(run: Run, _: argparse.Namespace) -> "subprocess.Popen[bytes]":
        run.folder.mkdir(parents=True)
        (run.folder / "study.log").write_text("iteration 20 of 250  0:10:00 left\n")
        return subprocess.Popen(["sleep", "2"])

    monkeypatch.setattr(tools.study, "launch", launch)
    monkeypatch.setattr(tools.study, "PROGRESS_S", 1)
    done = study("--weights", weights, "--output", output, "--centres", "C1", "--seeds", 0,
                 "--variants", "plain", "--jobs", 1)  # fmt: skip
    assert "] C1/plain/seed0 20 of 250; 0 to start, about 10 min left\n" in done.stderr
