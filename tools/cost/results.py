"""What a run of the benchmark has found so far, and where it is written."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .arithmetic import growth_exponent, spread
from .setting import MODES, Setting

__all__ = ["METRICS", "Measurement", "Results"]

# Metric, unit in results.json, unit in tables and how many of it one of the former is.
METRICS = {"time": ("s", "ms", 1000), "memory": ("MB", "MB", 1)}


@dataclass(frozen=True)
class Measurement:
    """One table: a metric of a mode at a setting, the raw values of each subject by name."""

    setting: Setting
    mode: str
    metric: str
    values: dict[str, list[float]]

    def __str__(self) -> str:
        """Describe it in a heading."""
        what = MODES[self.mode]
        return f"{self.setting}: {what if self.metric == 'time' else f'peak memory of a {what}'}"


@dataclass
class Results:
    """Everything measured, in order, and (scope, subject, reason) of what could not be."""

    environment: dict[str, object]
    options: dict[str, object]
    measurements: list[Measurement] = field(default_factory=list)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)

    def leave_out(self, scope: str, subject: str, reason: str) -> None:
        """Note once that a subject could not be measured."""
        if (scope, subject, reason) not in self.left_out:
            self.left_out.append((scope, subject, reason))

    def reasons(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each reason with the subjects, or scopes and subjects, that it left out."""
        for reason in dict.fromkeys(reason for _, _, reason in self.left_out):
            names = [name for _, name, why in self.left_out if why == reason]
            yield reason, list(dict.fromkeys(names))

    def exponents(self) -> dict[tuple[Setting, str], dict[str, float]]:
        """Fit (setting, mode): {subject: the power of the pixels with which its time grows}.

        Only of what was timed at three sizes or more and is otherwise alike; the setting is one
        without a size, 0x0.
        """
        points: dict[tuple[Setting, str], dict[str, list[tuple[int, float]]]] = {}
        for found in self.measurements:
            if found.metric == "time":
                alike = replace(found.setting, height=0, width=0)
                curves = points.setdefault((alike, found.mode), {})
                pixels = found.setting.height * found.setting.width
                for name, values in found.values.items():
                    if values:
                        curves.setdefault(name, []).append((pixels, spread(values).median))
        return {
            key: {name: growth_exponent(*zip(*curve, strict=True)) for name, curve in fitted}
            for key, curves in points.items()
            if (fitted := [(n, c) for n, c in curves.items() if len({p for p, _ in c}) >= 3])
        }

    def save(self, path: Path) -> None:
        """Write all of it, raw values included, as JSON."""
        data = {
            "environment": self.environment,
            "options": self.options,
            "measurements": [
                {
                    **asdict(found.setting),
                    "mode": found.mode,
                    "metric": found.metric,
                    "unit": METRICS[found.metric][0],
                    "values": found.values,
                }
                for found in self.measurements
            ],
            "left_out": [
                {"scope": scope, "subject": name, "reason": reason}
                for scope, name, reason in self.left_out
            ],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")
