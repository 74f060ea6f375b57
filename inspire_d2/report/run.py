"""What train_net.py leaves in a run's folder, read back."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from inspire_d2.engine.checkpoint_files import newest_checkpoint
from inspire_d2.engine.config import load_config
from inspire_d2.engine.run_folder import find_scores
from inspire_d2.errors import InputError
from inspire_d2.report.log import LogFacts, read_log
from inspire_d2.visualization.curves import Series, read_metrics

__all__ = ["Run", "read_json", "read_run"]

CONFIG = "config.yaml"
DEFAULT_THRESHOLD = 0.5


@dataclass
class Run:
    """A run's files; what is not there is empty."""

    folder: Path
    name: str
    cfg: DictConfig  # what is scored, and how, is that of the scores
    yaml: str
    series: Series = field(default_factory=dict)
    evaluation: dict[str, dict[str, float | None]] = field(default_factory=dict)
    log: LogFacts = field(default_factory=LogFacts)
    checkpoint: str = ""  # the newest that is whole
    results: Path = Path()  # where its scores lie: the folder, or evaluation/ in it
    note: str = ""  # what a reader must know of them

    @property
    def evaluators(self) -> dict[str, DictConfig]:
        """The config's evaluators by their class's name."""
        return {
            str(node["_target_"]).rpartition(".")[2]: node
            for node in _calls(self.cfg.dataloader.get("evaluator"))
        }

    @property
    def has_volumes(self) -> bool:
        """Whether it is scored on volumes."""
        return "VolumeEvaluator" in self.evaluators

    @property
    def has_polyps(self) -> bool:
        """Whether it has a Dice for each image."""
        return "PolypEvaluator" in self.evaluators

    @property
    def has_boxes(self) -> bool:
        """Whether it is scored on instances, which the scoring saves."""
        return any(name.endswith("COCOEvaluator") for name in self.evaluators)

    @property
    def threshold(self) -> float:
        """The score from which a prediction counts."""
        node = self.evaluators.get("PolypEvaluator", {})
        return float(node.get("score_threshold", DEFAULT_THRESHOLD))


def read_run(folder: Path) -> Run:
    """Read a run of train_net.py.

    Raises:
        InputError: there is no such folder, it holds no run, or a file of it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the output folder of train_net.py.")
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} holds no {CONFIG}: it is no output folder of train_net.py.")
    cfg = load_config(str(path))
    name = folder.resolve().name
    run = Run(folder, name, cfg, path.read_text(encoding="utf-8", errors="replace"))
    metrics = folder / "metrics.json"
    if metrics.is_file() and metrics.stat().st_size:  # empty until the first line is due
        run.series = read_metrics(metrics)
    run.log = read_log(folder / "log.txt")
    with contextlib.suppress(InputError):  # what is saved of its scores can do without weights
        run.checkpoint = newest_checkpoint(str(folder))
    run.results, scored, run.note = find_scores(folder, cfg)
    if scored is not cfg:
        cfg.dataloader.test = scored.dataloader.test
        cfg.dataloader.evaluator = scored.dataloader.evaluator
    evaluation = read_json(run.results / "evaluation.json") or {}
    tasks = evaluation.values() if isinstance(evaluation, dict) else [evaluation]
    if not all(isinstance(task, dict) for task in tasks):
        raise InputError(
            f"{run.results}/evaluation.json does not hold {{task: {{metric: value}}}}."
        )
    run.evaluation = evaluation
    return run


def read_json(path: Path) -> Any:
    """Read a file of a run; None where it is not there.

    Raises:
        InputError: it is there and cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file, or only a part of one: {error}.") from error


def _calls(node: Any) -> Iterator[DictConfig]:
    """Walk a config's lazy calls."""
    if isinstance(node, DictConfig) and "_target_" in node:
        yield node
    children = node.values() if isinstance(node, DictConfig) else node
    for child in children if isinstance(node, DictConfig | ListConfig) else ():
        yield from _calls(child)
