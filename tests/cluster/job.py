"""A job on the cluster, as a test watches it."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from tools.faulty.comparison import differences

if TYPE_CHECKING:
    from .lab import Lab

# For what takes seconds where the machine has nothing else to do.
PATIENCE_S = 300
RANK = re.compile(r"rank (\d+) of \d+: (\S+), process (\d+),")
HALF = 4  # iterations done when a run that is held waits
SIGNALLED = f"stopped by a signal after iteration {HALF} of 8: saved in "
# States that a job does not leave by itself.
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


@dataclass(frozen=True)
class Job:
    """One job: its state as slurmctld tells it, the log of its tasks, the folder of its run."""

    lab: "Lab"
    job_id: str
    log: Path
    output: Path

    def show(self) -> dict[str, str]:
        """Return what ``scontrol show job`` says."""
        text = self.lab.run("scontrol", "--oneliner", "show", "job", self.job_id)
        return dict(pair.partition("=")[::2] for pair in text.split() if "=" in pair)

    def state(self) -> str:
        """Return its state, such as PENDING or COMPLETED."""
        return self.show()["JobState"]

    def text(self) -> str:
        """Return what it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def processes(self) -> dict[int, tuple[str, int]]:
        """Return host and process id of each rank, of its last start."""
        return {int(rank): (host, int(pid)) for rank, host, pid in RANK.findall(self.text())}

    def wait(self, *states: str) -> None:
        """Wait until it has ended, in one of these states, by default that all is done."""
        states = states or ("COMPLETED",)
        self.wait_until(
            lambda: (shown := self.show())["JobState"] in ENDED and shown["EndTime"] != "Unknown",
            "has ended",
        )
        if self.state() not in states:
            self.fail(f"ended otherwise than {' or '.join(states)}")

    def wait_held(self, count: int) -> None:
        """Wait until that many processes wait halfway."""
        folder = hold_folder(self.output)
        self.wait_until(lambda: len(list(folder.glob("held.*"))) == count, f"holds {count} ranks")

    def release(self) -> None:
        """Let the processes that wait go on."""
        (hold_folder(self.output) / "go").touch()

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds of this job; fail where it has ended before, or in vain."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end or (self.state() in ENDED and not condition()):
                self.fail(f"waited in vain until the job {what}")
            time.sleep(0.1)

    def expect(self, holds: bool, what: str) -> None:
        """Fail the test unless something holds of this job."""
        if not holds:
            self.fail(f"not so: {what}")

    def expect_saved_and_queued_again(self) -> None:
        """Check that it wrote one checkpoint of the iteration it was at, and went on from there."""
        text = self.text()
        self.expect(self.show()["Restarts"] == "1", "queued again once")
        self.expect(text.count(SIGNALLED) == text.count("is queued again") == 1, "saved once")
        went_on = f"Starting training from iteration {HALF}"
        self.expect(went_on in text, f"resumed at iteration {HALF}")

    def expect_equal(self, whole: "Job") -> None:
        """Check that what came of it is what came of one that was never stopped."""
        found = differences(whole.output, self.output)
        self.expect(not found, f"equal to a run never stopped: {found}")

    def errors(self) -> list[str]:
        """Return what train_net.py has told of errors, in order."""
        return [line for line in self.text().splitlines() if line.startswith("error: ")]

    def fail(self, what: str) -> NoReturn:
        """Fail the test, with what is known of the job."""
        shown = self.show()
        known = {key: shown.get(key) for key in ("JobState", "Reason", "Restarts", "ExitCode")}
        tail = "\n".join(line[:300] for line in self.text().splitlines()[-60:])
        pytest.fail(f"job {self.job_id}: {what}; {known}\n{tail}", pytrace=False)


def hold_folder(output: Path) -> Path:
    """Return the folder, beside a run's, in which its processes tell that they wait."""
    folder = output.with_name(output.name + ".hold")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
