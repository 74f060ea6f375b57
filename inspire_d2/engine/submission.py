"""A run as a job of submitit: what each node starts, and how a signal reaches it."""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from ..cli import SCRIPTS
from .signals import INTERRUPTED, RESUME_ME
from .slurm import requeue_when_stopped, slurm_task

__all__ = ["RunEndedError", "TrainingJob"]

TRAIN_NET = SCRIPTS / "train_net.py"
# Of preemption and scancel; of submitit, some time before the time limit.
STOPS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1)
WRONG_INPUT = 2


class RunEndedError(RuntimeError):
    """A run that did not come to its end; the message says what to look at."""


@dataclass(frozen=True)
class TrainingJob:
    """Run train_net.py on one node, with these arguments and that many ``processes``.

    submitit calls it once on every node. ``slurm`` is False on a machine without Slurm; ``script``
    stands in for train_net.py in tests.
    """

    arguments: tuple[str, ...]
    processes: int
    output_dir: str
    slurm: bool = True
    script: str = str(TRAIN_NET)

    def command(self) -> list[str]:
        """Return the command that a node runs, with the Python that runs this."""
        words = ["--slurm"] if self.slurm else []
        words += ["--num-gpus", str(self.processes), *self.arguments]
        return [sys.executable, "-u", self.script, *words]

    def __call__(self) -> None:
        """Run it and wait.

        Raises:
            SystemExit: under Slurm, a signal stopped it, and it is seen to that the job goes on; or
                it was asked for what it cannot do, which its last line tells. submitit then notes
                no result, and the job ends with train_net.py's code.
            RunEndedError: it ended with any other exit code than 0.
        """
        code = run_with_signals(self.command())
        if code == 0:
            return
        # A signal that comes before train_net.py has taken over signals ends it there and then.
        early = -code in STOPS
        stopped = code == RESUME_ME or early
        if self.slurm and code in (RESUME_ME, WRONG_INPUT):
            raise SystemExit(code)
        if self.slurm and early:
            with requeue_when_stopped(slurm_task()):
                raise SystemExit(RESUME_ME)
        raise RunEndedError(self._tell(code, stopped))

    def _tell(self, code: int, stopped: bool) -> str:
        where = f"train_net.py on {socket.gethostname()}"
        if stopped or code == INTERRUPTED:
            return f"{where} was stopped by a signal: the same command with --resume goes on."
        look = f"look at {_own_log()}"
        if code == WRONG_INPUT:
            return f"{where} was asked for what it cannot do: {look}, at the line with 'error:'."
        look += f" and {self.output_dir}/log.txt."
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", for want of memory perhaps" if name == "SIGKILL" else ""
            return f"{where} was ended by {name}{hint}: {look}"
        return f"{where} failed with exit code {code}: {look}"


def run_with_signals(command: Sequence[str]) -> int:
    """Run a command, handing on the signals that ask to stop; return its exit code as Popen does.

    submitit's own handlers, meanwhile out of the way, would queue the job again at once, before
    train_net.py has written a checkpoint.
    """
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if not running:
            early.append(number)
        for process in running:
            process.send_signal(number)

    with _handler(forward):
        process = subprocess.Popen(command)
        running.append(process)
        for number in early:
            process.send_signal(number)
        return process.wait()


@contextlib.contextmanager
def _handler(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that ask to stop, Ctrl-C's too, by ``handle``."""
    before = {number: signal.signal(number, handle) for number in (*STOPS, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _own_log() -> str:
    """Return the file that this task writes to, where submitit started it."""
    from submitit import JobEnvironment

    try:
        return str(JobEnvironment().paths.stdout)
    except (RuntimeError, KeyError):
        return "its output"
