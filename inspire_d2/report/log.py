"""What a run's log.txt alone tells: the machine, the model's size, its pace."""

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["LogFacts", "read_log"]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MODEL = re.compile(r"INFO: (\S+ with \S+): ([\d.]+) M parameters, ([\d.]+) M of them trained")
_PACE = re.compile(r"Total inference pure compute time: .*?\(([\d.]+) s / iter per device")
_ROW = re.compile(r"^(\S.*?)\s{2,}(\S.*)$")
_PLACE = re.compile(r" ?@\S+")  # where on that machine a package lay


class LogFacts(NamedTuple):
    """What was found; a field is empty or None where the log does not tell."""

    environment: dict[str, str] = {}  # Detectron2's table of the machine and of versions
    model: str = ""  # such as "GeneralizedRCNN with InspireFPN"
    parameters: float | None = None  # millions
    trained: float | None = None  # of those, millions
    seconds_per_image: float | None = None  # of the last scoring, the model alone


def read_log(path: Path) -> LogFacts:
    """Read a log of train_net.py, of whose repeated lines the last count; there may be none."""
    try:
        text = _COLOURS.sub("", path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return LogFacts()
    facts = LogFacts(environment=_environment(text))
    if models := _MODEL.findall(text):
        model, total, trained = models[-1]
        facts = facts._replace(model=model, parameters=float(total), trained=float(trained))
    if paces := _PACE.findall(text):
        facts = facts._replace(seconds_per_image=float(paces[-1]))
    return facts


def _environment(text: str) -> dict[str, str]:
    """Read the table under the last "Environment info", without paths."""
    _, found, rest = text.rpartition("Environment info:")
    rows: dict[str, str] = {}
    if not found:
        return rows
    lines = rest.splitlines()[1:]
    if not lines or not lines[0].startswith("---"):
        return rows
    for line in lines[1:]:
        if line.startswith("---"):
            break
        if match := _ROW.match(line):
            rows[match[1]] = _PLACE.sub("", match[2])
    return rows
