"""A job that Slurm stops comes back, and the run equals one that was never stopped."""

from pathlib import Path

from .job import HALF, SIGNALLED, Job
from .lab import Lab


def test_after_the_time_limit(lab: Lab, data: list[str], two_nodes: Job, tmp_path: Path) -> None:
    signalled = ("--time=10", "--signal=USR2@120")
    job = lab.train(data, tmp_path / "run", nodes=2, hold=True, sbatch=signalled)
    job.wait_held(4)
    # One to two minutes from now: when Slurm next looks, each half minute, it sends the signal.
    hours, minutes, _ = map(int, job.show()["RunTime"].split(":"))
    limit = 60 * hours + minutes + 2
    lab.run("scontrol", "update", f"jobid={job.job_id}", f"timelimit={limit}")
    job.wait_until(lambda: job.show()["Restarts"] == "1", "is queued again")
    lab.run("scontrol", "update", f"jobid={job.job_id}", "timelimit=10")
    job.wait()
    job.expect_saved_and_queued_again()
    job.expect_equal(two_nodes)


def test_after_a_power_failure(lab: Lab, data: list[str], two_nodes: Job, tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", nodes=2, hold=True)
    job.wait_held(4)
    with lab.power_failure("n2"):
        job.release()  # those on n1 now wait for those of n2
        job.wait_until(lambda: job.show()["Restarts"] == "1", "is queued again")
    job.wait()
    # Nothing was saved when the node failed: it went on from the checkpoint of every third.
    job.expect("queued again" not in job.text(), "Slurm queued it again by itself")
    job.expect("Starting training from iteration 3" in job.text(), "resumed at iteration 3")
    job.expect_equal(two_nodes)


def test_not_after_scancel(lab: Lab, data: list[str], tmp_path: Path) -> None:
    job = lab.train(data, tmp_path / "run", hold=True)
    job.wait_held(2)
    lab.run("scancel", job.job_id)
    job.wait("CANCELLED")
    job.expect(job.show()["Restarts"] == "0", "not queued again")
    job.expect(SIGNALLED in job.text(), "a checkpoint was written")
    assert (job.output / "last_checkpoint").read_text() == f"model_{HALF - 1:07d}.pth"
