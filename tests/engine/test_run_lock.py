"""Two runs do not write to one folder; however one ends, the next may start."""

import argparse
import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inspire_d2.engine import run_lock as module
from inspire_d2.engine.run_lock import run_lock
from inspire_d2.engine.slurm import SlurmTask
from inspire_d2.errors import InputError

ALONE = argparse.Namespace(machine_rank=0, slurm_task=None)
# Takes a folder, forks a child, as a loader its workers, and stays until it reads a line or dies.
HOLDER = """
import argparse, os, sys, time
from inspire_d2.engine.run_lock import run_lock
with run_lock(sys.argv[1], argparse.Namespace(machine_rank=0, slurm_task=None)):
    child = os.fork()
    if not child:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen:
    """Start a process that holds ``tmp_path``."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], text=True, **pipes) as process:
        child = int(process.stdout.readline())
        yield process
        process.kill()
        os.kill(child, signal.SIGKILL)


def restarted(restarts: int) -> argparse.Namespace:
    return argparse.Namespace(machine_rank=0, slurm_task=SlurmTask("1", 1, 0, restarts, "1.0.0"))


@pytest.mark.parametrize("args", [ALONE, restarted(0)])
def test_a_second_run_is_refused_until_the_first_is_gone(
    holder: subprocess.Popen, tmp_path: Path, args: argparse.Namespace
) -> None:
    told = f"process {holder.pid} on .* is writing to {tmp_path}: "
    with pytest.raises(InputError, match=told), run_lock(str(tmp_path), args):
        pass
    holder.kill()
    holder.wait()
    with run_lock(str(tmp_path), args):  # the killed one's child is still there
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


def test_other_folders_and_other_machines_of_the_run_are_free(
    holder: subprocess.Popen, tmp_path: Path
) -> None:
    (tmp_path / "evaluation").mkdir()
    with run_lock(str(tmp_path / "evaluation"), ALONE):
        pass
    with run_lock(str(tmp_path), argparse.Namespace(machine_rank=1, slurm_task=None)):
        pass


def test_a_job_that_was_started_again_waits(
    holder: subprocess.Popen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: holder.communicate("\n"))
    with caplog.at_level(logging.WARNING), run_lock(str(tmp_path), restarted(1)):
        assert holder.returncode == 0
    assert f"Waiting up to 120 s for process {holder.pid} on" in caplog.text


def test_what_a_killed_launcher_leaves_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first process, which writes the checkpoint of the iteration that it is in."""
    rank = (
        "import sys; from inspire_d2.engine.run_lock import keep_rank_lock\n"
        "keep_rank_lock(sys.argv[1]); print(flush=True); sys.stdin.readline()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", rank, tmp_path], text=True, **pipes) as process:
        process.stdout.readline()
        monkeypatch.setattr(module, "ENDING_WAIT_S", 0)
        told = f"process {process.pid} on .* is writing to {tmp_path}: "
        with pytest.raises(InputError, match=told), run_lock(str(tmp_path), ALONE):
            pass
        monkeypatch.setattr(module, "ENDING_WAIT_S", 120)
        monkeypatch.setattr(module.time, "sleep", lambda _: process.communicate("\n"))
        with run_lock(str(tmp_path), ALONE):
            assert process.returncode == 0


def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with run_lock(str(tmp_path), ALONE):
        pass


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    told = r"\.lock cannot be written: Is a directory"
    with pytest.raises(InputError, match=told), run_lock(str(tmp_path), ALONE):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_does_not_end_the_run_here(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to("/dev/full")
    with run_lock(str(tmp_path), ALONE):
        pass
