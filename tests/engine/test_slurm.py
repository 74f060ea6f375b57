"""What a task reads from Slurm's variables, and when a stopped job is queued again."""

import os
from pathlib import Path

import pytest

from inspire_d2.engine.signals import stop_signals
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


def test_a_task_of_an_array_is_not_the_array() -> None:
    # As Slurm sets them in the last task, whose id is the array's.
    array = {"SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": "2"}
    assert slurm_task(STEP | array).job_id == "71_2"


def test_refuses_what_srun_did_not_start() -> None:
    with pytest.raises(InputError, match="SLURM_JOB_ID is not set, so srun did not start"):
        slurm_task({})
    # the shell of salloc and sbatch knows the job, but is no step of it
    with pytest.raises(InputError, match="SLURM_STEP_ID is not set"):
        slurm_task({"SLURM_JOB_ID": "71", "SLURM_JOB_NUM_NODES": "2"})


def test_refuses_several_tasks_on_a_node() -> None:
    with pytest.raises(InputError, match="8 tasks on 2 nodes; start one per node"):
        slurm_task({**STEP, "SLURM_STEP_NUM_TASKS": "8"})


class Slurm:
    """A scontrol that knows batch job 71 and writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self._asked = folder / "asked"
        self._asked.touch()
        self.program = folder / "bin" / "scontrol"
        self.program.parent.mkdir()
        self.shows("JobState=RUNNING Reason=None")

    def shows(self, state: str) -> None:
        self.program.write_text(
            f'#!/bin/sh\necho "$@" >>{self._asked}\n[ "$1" = requeue ] || '
            f'echo "JobId=$3 {state} BatchFlag=$([ "$3" = 71 ] && echo 1 || echo 0) X=1"\n'
        )
        self.program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        asked = self._asked.read_text().splitlines()
        self._asked.write_text("")
        return asked


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    slurm = Slurm(tmp_path)
    monkeypatch.setenv("PATH", str(slurm.program.parent), prepend=os.pathsep)
    # What a stop leaves behind in this process.
    monkeypatch.setattr(stop_signals, "ending", False)
    return slurm


def end(task: SlurmTask | None, code: int, folder: Path, checkpoint: bool = False) -> None:
    with pytest.raises(SystemExit) as ended, requeue_when_stopped(task) as start:
        start.watch(str(folder))
        if checkpoint:
            (folder / "last_checkpoint").write_text("model_0000004.pth")
        raise SystemExit(code)
    assert ended.value.code == code


def task(rank: int = 0, job: str = "71", restarts: int = 0) -> SlurmTask:
    return SlurmTask(job, 2, rank, restarts, f"{job}.0.{restarts}")


def test_a_stopped_batch_job_is_queued_again_once(scontrol: Slurm, tmp_path: Path) -> None:
    end(task(rank=1), 75, tmp_path)
    assert not scontrol.asked
    end(task(rank=0), 75, tmp_path)
    assert scontrol.asked == ["show job 71", "requeue 71"]


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_job_that_ended_by_itself_is_not(scontrol: Slurm, tmp_path: Path, code: int) -> None:
    end(task(), code, tmp_path)
    end(None, 75, tmp_path)
    assert not scontrol.asked


def test_what_srun_began_alone_cannot_be(scontrol: Slurm, tmp_path: Path) -> None:
    end(task(job="72"), 75, tmp_path)
    assert scontrol.asked == ["show job 72"]


def test_a_cancelled_job_stays_away(scontrol: Slurm, tmp_path: Path) -> None:
    # as Slurm 22.05 shows them
    scontrol.shows("JobState=COMPLETING Reason=None")
    end(task(), 75, tmp_path)
    assert scontrol.asked == ["show job 71"]
    scontrol.shows("JobState=COMPLETING Reason=TimeLimit")
    end(task(), 75, tmp_path)
    assert scontrol.asked == ["show job 71", "requeue 71"]


def test_a_job_that_gets_no_further_is_left(
    scontrol: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for restarts in range(2):
        end(task(restarts=restarts), 75, tmp_path)
        assert "requeue 71" in scontrol.asked
    end(task(restarts=2), 75, tmp_path)
    assert "requeue 71" not in scontrol.asked
    assert "got no further in its last 3 starts" in capsys.readouterr().err
    # one that does begins to count anew, however often it was restarted
    end(task(restarts=9), 75, tmp_path, checkpoint=True)
    end(task(restarts=10), 75, tmp_path)
    assert scontrol.asked.count("requeue 71") == 2


def test_a_job_that_failed_on_another_machine_is_not(scontrol: Slurm, tmp_path: Path) -> None:
    end(task(rank=1), 2, tmp_path)
    # Slurm then ends the first machine's task, which takes it for a preemption
    with pytest.raises(SystemExit) as ended, requeue_when_stopped(task(rank=0)) as start:
        start.watch(str(tmp_path))
        raise SystemExit(75)
    assert ended.value.code == 2 and not scontrol.asked
    # and that of an earlier start is no more than that
    end(task(restarts=1), 75, tmp_path)
    assert "requeue 71" in scontrol.asked


@pytest.mark.parametrize("error", [InputError("no such file"), OSError("stale file handle")])
def test_a_job_that_another_machine_could_not_begin_is_not(
    scontrol: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(stop_signals, "wait", lambda _: None)
    folder = tmp_path / "new"  # which no machine has made so far
    with pytest.raises(type(error)), requeue_when_stopped(task(rank=1)) as start:
        start.watch(str(folder))
        raise error
    with pytest.raises(SystemExit) as ended, requeue_when_stopped(task(rank=0)) as start:
        start.watch(str(folder))
        raise SystemExit(75)
    assert ended.value.code in (1, 2) and not scontrol.asked


def test_wrong_input_is_the_first_machines_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(stop_signals, "wait", waited.append)
    monkeypatch.setattr(stop_signals, "ending", False)
    for rank in (0, 1):
        with pytest.raises(InputError), requeue_when_stopped(task(rank=rank)):
            raise InputError("no such file")
        assert len(waited) == rank and stop_signals.ending


def test_a_queue_that_refuses_is_told(
    scontrol: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    scontrol.program.write_text(
        '#!/bin/sh\n[ "$1" = show ] && echo " BatchFlag=1" || { echo no >&2; exit 1; }\n'
    )
    end(task(), 75, tmp_path)
    assert "scontrol requeue 71 failed (no): queue the job again by hand" in capsys.readouterr().err


def test_another_jobs_starts_do_not_count(scontrol: Slurm, tmp_path: Path) -> None:
    (tmp_path / ".fruitless_starts").write_text("3")
    end(task(), 75, tmp_path)
    assert "requeue 71" in scontrol.asked
    assert (tmp_path / ".fruitless_starts").read_text() == "1"


def test_a_job_that_never_gets_to_its_folder_is_left(
    scontrol: Slurm, capsys: pytest.CaptureFixture
) -> None:
    for restarts, again in ((0, True), (5, True), (10, False)):
        with pytest.raises(SystemExit), requeue_when_stopped(task(restarts=restarts)):
            raise SystemExit(75)
        assert ("requeue 71" in scontrol.asked) is again
    assert "see in all nodes' logs what ends it" in capsys.readouterr().err
