"""What a task reads from Slurm's variables, and when a stopped job is queued again."""

import os
from pathlib import Path

import pytest

from inspire_d2.engine.slurm import SlurmTask, requeue_when_stopped, slurm_task
from inspire_d2.errors import InputError

STEP = {
    "SLURM_JOB_ID": "71",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_NODEID": "1",
}


def test_reads_its_place() -> None:
    assert slurm_task(STEP) == SlurmTask("71", num_machines=2, rank=1, restarts=0, token="71.0.0")
    again = slurm_task({**STEP, "SLURM_RESTART_COUNT": "2"})
    assert (again.restarts, again.token) == (2, "71.0.2")


def test_refuses_what_srun_did_not_start() -> None:
    with pytest.raises(InputError, match="SLURM_JOB_ID is not set, so srun did not start"):
        slurm_task({})
    # the shell of salloc and sbatch knows the job, but is no step of it
    with pytest.raises(InputError, match="SLURM_STEP_ID is not set"):
        slurm_task({"SLURM_JOB_ID": "71", "SLURM_JOB_NUM_NODES": "2"})


def test_refuses_several_tasks_on_a_node() -> None:
    with pytest.raises(InputError, match="8 tasks on 2 nodes; start one per node"):
        slurm_task({**STEP, "SLURM_STEP_NUM_TASKS": "8"})


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scontrol that knows one batch job, 71, and writes down what it is asked."""
    asked = tmp_path / "asked"
    asked.touch()
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{asked}\n'
        '[ "$1" = requeue ] || echo "JobId=$3 BatchFlag=$([ "$3" = 71 ] && echo 1 || echo 0) X=1"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return asked


def end(task: SlurmTask | None, code: int, folder: Path, checkpoint: bool = False) -> None:
    with pytest.raises(SystemExit) as ended, requeue_when_stopped(task) as start:
        start.watch(str(folder))
        if checkpoint:
            (folder / "last_checkpoint").write_text("model_0000004.pth")
        raise SystemExit(code)
    assert ended.value.code == code


def task(rank: int = 0, job: str = "71", restarts: int = 0) -> SlurmTask:
    return SlurmTask(job, 2, rank, restarts, f"{job}.0.{restarts}")


def test_a_stopped_batch_job_is_queued_again_once(scontrol: Path, tmp_path: Path) -> None:
    end(task(rank=1), 75, tmp_path)
    end(task(rank=0), 75, tmp_path)
    assert scontrol.read_text().splitlines() == ["show job 71", "requeue 71"]


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_job_that_ended_by_itself_is_not(scontrol: Path, tmp_path: Path, code: int) -> None:
    end(task(), code, tmp_path)
    end(None, 75, tmp_path)
    assert scontrol.read_text() == ""


def test_what_srun_began_alone_cannot_be(scontrol: Path, tmp_path: Path) -> None:
    end(task(job="72"), 75, tmp_path)
    assert scontrol.read_text() == "show job 72\n"


def test_a_job_that_gets_no_further_is_left(
    scontrol: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    end(task(restarts=3), 75, tmp_path)
    assert "requeue" not in scontrol.read_text()
    assert "was started 4 times and got no further" in capsys.readouterr().err
    end(task(restarts=3), 75, tmp_path, checkpoint=True)
    assert "requeue 71" in scontrol.read_text()


def test_a_queue_that_refuses_is_told(
    scontrol: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    program = tmp_path / "bin" / "scontrol"
    program.write_text(
        '#!/bin/sh\n[ "$1" = show ] && echo " BatchFlag=1" || { echo no >&2; exit 1; }\n'
    )
    end(task(), 75, tmp_path)
    assert "scontrol requeue 71 failed (no): queue the job again by hand" in capsys.readouterr().err
