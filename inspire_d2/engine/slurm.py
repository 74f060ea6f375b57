"""What Slurm tells a task of its job, and how a job that was stopped comes back."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..errors import InputError
from .signals import INTERRUPTED, RESUME_ME, stop_signals

__all__ = ["SlurmTask", "Start", "requeue_when_stopped", "slurm_task"]

# The file that names a run's newest checkpoint.
LAST = "last_checkpoint"
# Starts in a row that may write no checkpoint, and the file in a run's folder that counts them.
FRUITLESS_STARTS = 3
FRUITLESS = ".fruitless_starts"
# Restarts after which one that is stopped before the run's folder is known is not queued again.
BLIND_RESTARTS = 10
# Names the start in which a machine has failed, and its exit code.
FAILURE = ".failure"
TELLING_S = 5


@dataclass(frozen=True)
class SlurmTask:
    """One of a Slurm step's tasks, one per node: ``rank`` of ``num_machines``.

    ``job_id`` is what scontrol knows the job by; an array's, ID_TASK, is not that of the whole.
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
    if "SLURM_ARRAY_TASK_ID" in environment:
        # The last task's own id is the array's: with it scontrol would queue all tasks again.
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    restarts = int(environment.get("SLURM_RESTART_COUNT", 0))
    return SlurmTask(job, nodes, rank, restarts, token=f"{job}.{step}.{restarts}")


class Start:
    """One start of a run, and what its machines and the next starts are to know of its end.

    They read it in the run's folder, once :meth:`watch` has told which that is.
    """

    def __init__(self, token: str = "", restarts: int = 0) -> None:
        """Name the start, and say how often its job was queued again before."""
        self._token, self._restarts = token, restarts
        self._output_dir: str | None = None
        self._before = ""

    def watch(self, output_dir: str) -> None:
        """Look for checkpoints in this folder from now on."""
        self._output_dir, self._before = output_dir, _read(output_dir, LAST)

    def note_failure(self, code: int) -> None:
        """Let the other machines, which Slurm will end for it, know that this one has failed."""
        if self._output_dir is not None:
            with contextlib.suppress(OSError):  # it may be the first to need the folder
                os.makedirs(self._output_dir, exist_ok=True)
            _write(self._output_dir, FAILURE, f"{self._token} {code}")

    def failure(self) -> int:
        """Return the exit code with which a machine has failed in this start, 0 if none has."""
        token, _, code = _read(self._output_dir or "", FAILURE).partition(" ")
        return int(code) if code and token == self._token else 0

    def count_fruitless(self) -> int:
        """Return how many starts of this job up to this one, in a row, wrote no checkpoint.

        0 if this one did; of one that ends before the run's folder is known, 0 until the job has
        been queued again so often that it seems never to get there.
        """
        if self._output_dir is None:
            return 0 if self._restarts < BLIND_RESTARTS else self._restarts + 1
        fruitful = _read(self._output_dir, LAST) != self._before
        before = int(_read(self._output_dir, FRUITLESS) or 0) if self._restarts else 0
        count = 0 if fruitful else before + 1
        _write(self._output_dir, FRUITLESS, str(count))
        return count


@contextlib.contextmanager
def requeue_when_stopped(task: SlurmTask | None) -> Iterator[Start]:
    """Queue a batch job again when it ends asking for that; any other ends with its exit code.

    A job is left alone that was cancelled, that failed on another machine, or whose last starts
    all wrote no checkpoint.
    """
    start = Start(task.token, task.restarts) if task else Start()
    if task is None:
        yield start
        return
    try:
        yield start
    except InputError:
        stop_signals.ending = True
        if task.rank:
            # What all machines met the first one tells; Slurm then ends the others.
            stop_signals.wait(TELLING_S)
        start.note_failure(2)
        raise
    except Exception:
        start.note_failure(1)
        raise
    except SystemExit as stop:
        if stop.code != RESUME_ME:
            if stop.code not in (0, None, INTERRUPTED):
                start.note_failure(int(stop.code))
            raise
        # Slurm may already be ending this step, and end it because another machine has failed.
        stop_signals.ending = True
        if failed := start.failure():
            raise SystemExit(failed) from stop
        if task.rank == 0 and _may_come_back(task):
            _requeue(task, start.count_fruitless())
        raise


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name)) as file:
            return file.read()
    except OSError:
        return ""


def _write(folder: str, name: str, text: str) -> None:
    path = os.path.join(folder, name)
    with contextlib.suppress(OSError):
        with open(path + ".tmp", "w") as file:
            file.write(text)
        os.replace(path + ".tmp", path)


def _may_come_back(task: SlurmTask) -> bool:
    """Whether a job runs a script, which Slurm can start again, and was not cancelled."""
    shown = _scontrol("show", "job", task.job_id) or ""
    # One that is ending is cancelled, unless its time is over; one that is preempted still runs.
    cancelled = "JobState=COMPLETING" in shown and "Reason=TimeLimit" not in shown
    return " BatchFlag=1" in shown and not cancelled and "JobState=CANCELLED" not in shown


def _requeue(task: SlurmTask, fruitless: int) -> None:
    if fruitless >= FRUITLESS_STARTS:
        _say(
            f"job {task.job_id} got no further in its last {fruitless} starts: it is not queued "
            "again; see in all nodes' logs what ends it, give it more time (--time) if its limit "
            "does."
        )
    elif _scontrol("requeue", task.job_id) is not None:
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
