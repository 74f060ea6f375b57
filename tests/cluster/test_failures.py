"""What a job says, and how it ends, where something is wrong."""

import os
import shlex
import signal
import sys
from pathlib import Path

from .job import Job
from .lab import Lab

PORT = 29517
LISTEN = f"""
import socket, time
with socket.create_server(("", {PORT})):
    open({{ready!r}}, "w").close()
    time.sleep(300)
"""


def test_a_rank_dies(lab: Lab, data: list[str], tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", nodes=2, hold=True)
    job.wait_held(4)
    host, pid = job.processes()[3]
    assert host == "n2"
    os.kill(pid, signal.SIGKILL)
    job.release()
    job.wait("FAILED")
    expect_not_queued_again(job)
    # Those that it leaves behind point to it, after it.
    first, *others = job.errors()
    job.expect("SIGKILL" in first, "the first error is that of the process that died")
    job.expect(all("lost another process" in line for line in others), "others lost it")
    job.expect("Traceback" not in job.text(), "no traceback")


def test_nodes_of_different_configs(lab: Lab, data: list[str], tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", "train.seed=$SLURM_NODEID", nodes=2)
    job.wait("FAILED")
    expect_not_queued_again(job)
    told = "error: machine 1 (n2): the run at n1:"
    job.expect([line[: len(told)] for line in job.errors()] == [told], "one error, of machine 1")
    job.expect("has another config" in job.errors()[0], "it tells why")


def test_a_port_in_use(lab: Lab, data: list[str], tmp_path: Path) -> None:
    ready = str(tmp_path / "listening")
    listen = shlex.join([sys.executable, "-c", LISTEN.format(ready=ready)])
    until = f"until [ -e {shlex.quote(ready)} ]; do sleep 0.1; done"
    job = lab.train(
        data,
        tmp_path / "run",
        f"train.dist.port={PORT}",
        before=f"{listen} &\ntrap 'kill $!' EXIT\n{until}",
    )
    job.wait("FAILED")
    expect_not_queued_again(job)
    job.expect(job.show()["ExitCode"] == "2:0", "exit code 2")
    told = f"error: port {PORT} is in use on n1"
    job.expect([line[: len(told)] for line in job.errors()] == [told], "one sentence")
    job.expect("train.dist.port" in job.errors()[0], "it tells what to do")
    job.expect("Traceback" not in job.text(), "no traceback")


def expect_not_queued_again(job: Job) -> None:
    """Check that it was the end of a job."""
    shown = job.show()
    job.expect(shown["Restarts"] == "0" and shown["ExitCode"] != "0:0", "failed, not queued again")
