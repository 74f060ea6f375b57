"""A job that Slurm stops comes back, and the run equals one that was never stopped."""

from pathlib import Path

from tools.faulty.comparison import differences

from .lab import Job, Lab

HALF = 4  # iterations done when a run that is held waits
SIGNALLED = f"stopped by a signal after iteration {HALF} of 8: saved in "


def test_after_a_signal(lab: Lab, data: list[str], two_nodes: Job, tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", nodes=2, hold=True)
    job.wait_held(4)
    lab.run("scancel", "--signal=USR2", job.job_id)
    job.wait()
    expect_saved_and_queued_again(job)
    assert differences(two_nodes.output, job.output) == []


def test_after_preemption(
    lab: Lab, data: list[str], side_by_side: tuple[Job, Job], tmp_path: Path
) -> None:
    job = lab.train(data, tmp_path / "run", hold=True, sbatch=("--nodelist=n1",))
    job.wait_held(2)
    lab.preempt("n1", tmp_path)
    job.wait()
    expect_saved_and_queued_again(job)
    assert differences(side_by_side[0].output, job.output) == []


def test_after_the_time_limit(
    lab: Lab, data: list[str], side_by_side: tuple[Job, Job], tmp_path: Path
) -> None:
    job = lab.train(data, tmp_path / "run", hold=True, sbatch=("--time=10", "--signal=USR2@120"))
    job.wait_held(2)
    # One to two minutes from now: when Slurm next looks, each half minute, it sends the signal.
    hours, minutes, _ = map(int, job.show()["RunTime"].split(":"))
    limit = 60 * hours + minutes + 2
    lab.run("scontrol", "update", f"jobid={job.job_id}", f"timelimit={limit}")
    job.wait_until(lambda: job.show()["Restarts"] == "1", "is queued again")
    lab.run("scontrol", "update", f"jobid={job.job_id}", "timelimit=10")
    job.wait()
    expect_saved_and_queued_again(job)
    assert differences(side_by_side[0].output, job.output) == []


def test_after_a_power_failure(lab: Lab, data: list[str], two_nodes: Job, tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", nodes=2, hold=True)
    job.wait_held(4)
    with lab.power_failure("n2"):
        job.release()  # those on n1 now wait for those of n2
        job.wait_until(lambda: job.show()["Restarts"] == "1", "is queued again")
    job.wait()
    # Nothing was saved when the node failed: it went on from the checkpoint of every third.
    assert "queued again" not in job.text()
    assert "Starting training from iteration 3" in job.text()
    assert differences(two_nodes.output, job.output) == []


def test_not_after_scancel(lab: Lab, data: list[str], tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", hold=True)
    job.wait_held(2)
    lab.run("scancel", job.job_id)
    job.wait("CANCELLED")
    assert job.show()["Restarts"] == "0"
    assert SIGNALLED in job.text()
    assert (job.output / "last_checkpoint").read_text() == f"model_{HALF - 1:07d}.pth"


def expect_saved_and_queued_again(job: Job) -> None:
    """Check that it wrote one checkpoint of the iteration it was at, and went on from there."""
    assert job.show()["Restarts"] == "1"
    text = job.text()
    assert text.count(SIGNALLED) == 1 and text.count("is queued again") == 1
    assert f"Starting training from iteration {HALF}" in text
