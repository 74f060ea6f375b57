"""The job that submitit runs, with small scripts in the place of train_net.py."""

import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import pytest

from inspire_d2.engine.signals import stop_signals
from inspire_d2.engine.submission import RunEndedError, TrainingJob

ROOT = Path(__file__).resolve().parents[2]
WAITING = """
import pathlib, signal, sys, time

def note(number, frame):
    pathlib.Path({folder!r}, "got").write_text(signal.Signals(number).name)
    sys.exit(75)

for name in ("SIGTERM", "SIGUSR2", "SIGINT"):
    signal.signal(getattr(signal, name), note)
pathlib.Path({folder!r}, "ready").touch()
while True:
    time.sleep(0.05)
"""


def job_of(tmp_path: Path, code: str, *, slurm: bool = False) -> TrainingJob:
    script = tmp_path / "stub.py"
    script.write_text(code)
    return TrainingJob(("--config-file", "a.py", "k=1"), 4, "runs/a", slurm, str(script))


@pytest.mark.parametrize("slurm", [True, False])
def test_the_command_is_train_nets_with_this_python(slurm):
    job = TrainingJob(("--config-file", "a.py", "--resume", "k=1"), 4, "runs/a", slurm)
    job = pickle.loads(cloudpickle.dumps(job))
    flags = ["--slurm"] if slurm else []
    flags += ["--num-gpus", "4", "--config-file", "a.py", "--resume", "k=1"]
    assert job.command() == [sys.executable, "-u", str(ROOT / "train_net.py"), *flags]


def test_a_run_that_ends_well_returns(tmp_path):
    log = tmp_path / "log"
    code = f"import sys; open({str(log)!r}, 'w').write(' '.join(sys.argv[1:]))"
    assert job_of(tmp_path, code)() is None
    assert log.read_text() == "--num-gpus 4 --config-file a.py k=1"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(2)", ["cannot do", "'error:'"]),
        ("raise SystemExit(130)", ["stopped", "--resume"]),
        ("raise SystemExit(3)", ["exit code 3", "runs/a/log.txt"]),
        ("import os; os.kill(os.getpid(), 9)", ["SIGKILL", "memory", "runs/a/log.txt"]),
    ],
)
@pytest.mark.parametrize("slurm", [True, False])
def test_a_run_that_fails_says_what_to_look_at(tmp_path, code, words, slurm):
    if slurm and "SystemExit(2)" in code:  # its last line says it, and the job's code
        with pytest.raises(SystemExit) as ended:
            job_of(tmp_path, code, slurm=slurm)()
        assert ended.value.code == 2
        return
    with pytest.raises(RunEndedError) as error:
        job_of(tmp_path, code, slurm=slurm)()
    assert all(word in str(error.value) for word in words)


def test_the_log_is_named_where_submitit_started_it(tmp_path, monkeypatch):
    for name, value in {"EXECUTOR": "local", "FOLDER": tmp_path, "LOCAL_JOB_ID": 7}.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", str(value))
    with pytest.raises(RunEndedError, match="7_0_log.out"):
        job_of(tmp_path, "raise SystemExit(1)")()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
@pytest.mark.parametrize("slurm", [True, False])
def test_a_signal_goes_to_the_run_in_place_of_submitits_handler(tmp_path, number, slurm):
    job = job_of(tmp_path, WAITING.format(folder=str(tmp_path)), slurm=slurm)
    theirs = []

    def send_when_ready() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    def submitits(*_: object) -> None:
        theirs.append(number)

    before = signal.signal(number, submitits)
    sender = threading.Thread(target=send_when_ready, daemon=True)
    sender.start()
    try:
        # Of an exit by which Slurm's job goes on, submitit is to note no result.
        with pytest.raises(SystemExit if slurm else RunEndedError) as error:
            job()
        assert signal.getsignal(number) is submitits
    finally:
        signal.signal(number, before)
    sender.join()
    assert (tmp_path / "got").read_text() == number.name and not theirs
    assert error.value.code == 75 if slurm else "--resume" in str(error.value)


def test_a_signal_before_the_run_has_taken_over_queues_it_again(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >>{asked}\necho JobState=RUNNING BatchFlag=1\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=os.pathsep)
    monkeypatch.setattr(stop_signals, "ending", False)
    step = {"JOB_ID": 71, "STEP_ID": 0, "STEP_NUM_TASKS": 1, "STEP_NUM_NODES": 1, "NODEID": 0}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    code = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2)"
    with pytest.raises(SystemExit) as error:
        job_of(tmp_path, code, slurm=True)()
    assert error.value.code == 75
    assert asked.read_text().splitlines() == ["show job 71", "requeue 71"]
