"""What a job says, and how it ends, where something is wrong."""

import os
import shlex
import signal
import sys
from pathlib import Path

from .lab import Lab

PORT = 29517
LISTEN = f"""
import socket, time
with socket.create_server(("", {PORT})):
    open({{ready!r}}, "w").close()
    time.sleep(600)
"""


def test_a_rank_dies(lab: Lab, data: list[str], tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", nodes=2, hold=True)
    job.wait_held(4)
    host, pid = job.processes()[3]
    assert host == "n2"
    os.kill(pid, signal.SIGKILL)
    job.release()
    job.wait("FAILED")
    assert job.show()["ExitCode"] != "0:0" and job.show()["Restarts"] == "0"
    errors = [line for line in job.text().splitlines() if "error: " in line]
    assert "signal SIGKILL" in errors[0], errors
    # Those that it leaves behind point to it, after it.
    assert all("lost another process" in line for line in errors[1:] if "rank" in line), errors
    assert "Traceback" not in job.text()


def test_nodes_of_different_configs(lab: Lab, data: list[str], tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", "train.seed=$SLURM_NODEID", nodes=2)
    job.wait("FAILED")
    assert job.show()["ExitCode"] != "0:0" and job.show()["Restarts"] == "0"
    (error,) = (line for line in job.text().splitlines() if line.startswith("error: "))
    assert error.startswith("error: machine 1 (n2): the run at n1:") and "another config" in error


def test_a_port_in_use(lab: Lab, data: list[str], tmp_path: Path) -> None:
    ready = str(tmp_path / "listening")
    listen = shlex.join([sys.executable, "-c", LISTEN.format(ready=ready)])
    job = lab.train(
        data,
        tmp_path / "run",
        f"train.dist.port={PORT}",
        before=f"{listen} & until [ -e {shlex.quote(ready)} ]; do sleep 0.1; done",
    )
    job.wait("FAILED")
    assert job.show()["ExitCode"] == "2:0"
    (error,) = (line for line in job.text().splitlines() if line.startswith("error: "))
    assert f"port {PORT} is in use on n1" in error and "train.dist.port" in error
    assert "Traceback" not in job.text()
