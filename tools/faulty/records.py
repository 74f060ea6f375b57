"""What was done to trainings, what became of them, and the counts of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Kill", "Run", "count"]


@dataclass
class Kill:
    """A process that was killed, and what the run had come to."""

    victim: str
    seconds: float  # after the start
    iterations: int  # that metrics.json tells of
    checkpoint: str  # the last there was, "" for none
    while_writing: bool = False  # it left a checkpoint half written


@dataclass
class Run:
    """One training that was killed: what was done to it and what became of it."""

    number: int
    kills: list[Kill] = field(default_factory=list)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def told(self) -> str:
        """Return its line of progress."""
        kills = [
            f"{kill.victim} at {kill.seconds:.1f} s"
            + (f" (iteration {kill.iterations})" if kill.checkpoint else " (no checkpoint yet)")
            + (" while a checkpoint was written" if kill.while_writing else "")
            for kill in self.kills
        ]
        outcome = "; ".join(self.problems) or "equal"
        return f"killed {', '.join(kills)}: {outcome}, {self.seconds:.0f} s"


def count(runs: Sequence[Run]) -> dict[str, int]:
    """Return the rows of the table that sums up."""
    kills = [kill for run in runs for kill in run.kills]
    return {
        "runs": len(runs),
        "kills": len(kills),
        "of the launcher": sum(kill.victim == "launcher" for kill in kills),
        "of a rank": sum(kill.victim != "launcher" for kill in kills),
        "before the first checkpoint": sum(not kill.checkpoint for kill in kills),
        "while a checkpoint was written": sum(kill.while_writing for kill in kills),
        "runs resumed": sum(bool(run.kills) for run in runs),
        "runs equal to the one never stopped": sum(not run.problems for run in runs),
    }
