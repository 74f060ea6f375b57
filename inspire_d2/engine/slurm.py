"""What Slurm tells a task of its job, and how a job that was stopped comes back."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..errors import InputError
from .signals import RESUME_ME, stop_signals

__all__ = ["SlurmTask", "requeue_when_stopped", "slurm_task"]

# Restarts after which a start that wrote no checkpoint is the last.
FRUITLESS_STARTS = 3


@dataclass(frozen=True)
class SlurmTask:
    """One of a Slurm step's tasks, one per node: ``rank`` of ``num_machines``.

    ``token`` names this start of this step, the same on all its nodes and on no other's.
    """

    job_id: str
    num_machines: int
    rank: int
    restarts: int
    token: str


def slurm_task(environment: Mapping[str, str] = os.environ) -> SlurmTask:
    """Read the task that this process is from the variables that srun sets.

    Raises:
        InputError: srun did not start it, or started more than one task on a node.
    """
    try:
        job, step = environment["SLURM_JOB_ID"], environment["SLURM_STEP_ID"]
        tasks = int(environment["SLURM_STEP_NUM_TASKS"])
        nodes = int(environment["SLURM_STEP_NUM_NODES"])
        rank = int(environment["SLURM_NODEID"])
    except KeyError as error:
        raise InputError(
            f"--slurm: {error.args[0]} is not set, so srun did not start this process; start it "
            "with srun --ntasks-per-node=1, tools/slurm_train.sh or tools/submit.py."
        ) from error
    if tasks != nodes:
        raise InputError(
            f"--slurm: this step has {tasks} tasks on {nodes} nodes; start one per node "
            "(--ntasks-per-node=1) and say with --num-gpus how many processes each makes."
        )
    restarts = int(environment.get("SLURM_RESTART_COUNT", 0))
    return SlurmTask(job, nodes, rank, restarts, token=f"{job}.{step}.{restarts}")


class Start:
    """One start of a run: whether it has written a checkpoint since :meth:`watch`."""

    def __init__(self) -> None:
        self._output_dir: str | None = None
        self._before = ""

    def watch(self, output_dir: str) -> None:
        """Look for checkpoints in this folder from now on."""
        self._output_dir, self._before = output_dir, _last_checkpoint(output_dir)

    def is_fruitless(self) -> bool:
        """Whether no checkpoint has come."""
        return self._output_dir is None or _last_checkpoint(self._output_dir) == self._before


@contextlib.contextmanager
def requeue_when_stopped(task: SlurmTask | None) -> Iterator[Start]:
    """Queue a batch job again when it ends asking for that; any other ends with its exit code.

    A job that was started several times and then wrote no checkpoint is left alone.
    """
    start = Start()
    try:
        yield start
    except SystemExit as stop:
        if stop.code == RESUME_ME and task is not None and task.rank == 0 and _is_batch(task):
            # Slurm may already be ending this step, as another of its tasks has ended.
            stop_signals.deferred = True
            if task.restarts >= FRUITLESS_STARTS and start.is_fruitless():
                _say(
                    f"job {task.job_id} was started {task.restarts + 1} times and got no further "
                    "this time: it is not queued again; give it more time (--time)."
                )
            else:
                _requeue(task)
        raise


def _last_checkpoint(output_dir: str) -> str:
    try:
        with open(os.path.join(output_dir, "last_checkpoint")) as file:
            return file.read()
    except OSError:
        return ""


def _is_batch(task: SlurmTask) -> bool:
    """Whether a job runs a script, which Slurm can start again; what srun alone began it cannot."""
    shown = _scontrol("show", "job", task.job_id)
    return shown is not None and " BatchFlag=1" in shown


def _requeue(task: SlurmTask) -> None:
    if _scontrol("requeue", task.job_id) is not None:
        _say(f"job {task.job_id} is queued again and will go on from its last checkpoint.")


def _scontrol(*words: str) -> str | None:
    """Return what scontrol says, None where it fails, which is told."""
    try:
        return subprocess.run(
            ["scontrol", *words], check=True, capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        _say(f"scontrol {' '.join(words)} failed ({reason}): queue the job again by hand.")
        return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
