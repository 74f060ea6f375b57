"""A case of hostile or broken input, and what its command must come to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CANARY", "EITHER", "RESULT", "SENTENCE", "Case"]

# What a case must come to: exit code 0, or one sentence and exit code 2, or one of the two.
RESULT, SENTENCE, EITHER = "a result", "a sentence", "a result or a sentence"
# The file that code hidden in input would make.
CANARY = "canary"


@dataclass(frozen=True)
class Case:
    """One call of a command.

    ``build`` lays out the files in an empty folder, in which the command then runs, and returns its
    words. What is written must be under "out". ``says`` must stand in the sentence.
    """

    kind: str
    name: str
    command: str
    build: Callable[[Path], list[str]]
    wanted: str = EITHER
    says: str = ""

    def __str__(self) -> str:
        """Return the name that --only takes."""
        return f"{self.kind}/{self.name}"
