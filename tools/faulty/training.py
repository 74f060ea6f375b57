"""A training on the CPU as processes that can be killed, and what is left of them after."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ENDING_S", "Training"]

REPOSITORY = Path(__file__).resolve().parents[2]
# How long the processes of a killed run may take to end by themselves.
ENDING_S = 120
POLL_S = 0.01


@dataclass(frozen=True)
class Process:
    """A process of a training: its id, its parent's, and whether it is a rank."""

    pid: int
    parent: int
    is_rank: bool


class Training:
    """One start of train_net.py: a launcher and, where there are several, the ranks it makes.

    They are a session of their own, so that none is lost track of and Ctrl-C does not reach them.
    """

    def __init__(self, words: list[str], log: Path, environment: dict[str, str]) -> None:
        self._log = log.open("ab")
        self._started = time.monotonic()
        self._launcher = subprocess.Popen(
            [sys.executable, "train_net.py", *words],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> "Training":
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Kill whatever still runs."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self._launcher.wait()
        self._log.close()

    @property
    def seconds(self) -> float:
        """The time since it was started."""
        return time.monotonic() - self._started

    def ended(self) -> bool:
        """Whether the launcher has ended."""
        return self._launcher.poll() is not None

    def wait(self) -> int:
        """Wait for the launcher; return its exit code as Popen does."""
        return self._launcher.wait()

    def wait_until(self, seconds: float) -> bool:
        """Wait until that long after the start; return whether it still runs then."""
        return self.wait_for(lambda: self.seconds >= seconds)

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait until something holds; return whether the training still runs then."""
        while not self.ended() and not condition():
            time.sleep(POLL_S)
        return not self.ended()

    def processes(self) -> list[Process]:
        """Return those that run, the launcher first where it is one of them."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and (process := self._look_at(int(name))):
                found.append(process)
        return sorted(found, key=lambda process: process.pid != self._launcher.pid)

    def victims(self) -> dict[str, int]:
        """Return by name the processes that may be killed: the launcher and the ranks so far.

        Workers of data loaders and Python's own helpers are left out. A rank's number is its place
        among those that run, which is the order they are made in.
        """
        running = self.processes()
        ranks = sorted(one.pid for one in running if one.is_rank)
        names = {f"rank {number}": pid for number, pid in enumerate(ranks)}
        launcher = {"launcher": self._launcher.pid} if not self.ended() else {}
        return launcher | names

    def kill(self, pid: int) -> None:
        """Send SIGKILL to one process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def wait_for_all(self) -> bool:
        """Wait until no process is left; return whether that came about within ENDING_S."""
        end = time.monotonic() + ENDING_S
        while self.processes() or not self.ended():
            if time.monotonic() > end:
                return False
            time.sleep(10 * POLL_S)
        return True

    def _look_at(self, pid: int) -> Process | None:
        """Return a process if it is one of this session and no zombie."""
        try:
            # After the name in brackets, which may hold anything: state, parent, group, session.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != self._launcher.pid or fields[0] in "ZX":
                return None
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            return None  # it has ended meanwhile
        parent = int(fields[1])
        is_rank = parent == self._launcher.pid and b"spawn_main" in words
        return Process(pid, parent, is_rank)
