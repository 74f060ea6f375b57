"""Folders of train_net.py seen from outside: where scores lie, how runs are told apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from .config import load_config

__all__ = ["Scores", "find_scores", "run_names"]

EVALUATION, SEVERAL, CONFIG = "evaluation.json", "scores.json", "config.yaml"


class Scores(NamedTuple):
    """Where the scores lie that count: in the run's folder, or what --eval-only left in it."""

    folder: Path
    cfg: DictConfig  # of the scoring: --eval-only may have had another test set
    note: str  # what a reader must know of it; "" of those at the end of a training


def find_scores(run: Path, cfg: DictConfig) -> Scores:
    """Find a run's scores, the newer ones where --eval-only has scored it, too.

    Raises:
        InputError: the config of --eval-only cannot be read.
    """
    own, other = run / EVALUATION, run / "evaluation" / EVALUATION
    several = other.with_name(SEVERAL)
    if several.is_file() and _written(several) > max(_written(own), _written(other)):
        note = f"{several} holds newer scores, of several checkpoints, which are left out."
        return Scores(run, cfg, note)
    if not other.is_file():
        return Scores(run, cfg, "")
    if _written(other) <= _written(own):
        note = f"{other} holds older scores, of --eval-only, which are left out."
        return Scores(run, cfg, note)
    config = other.with_name(CONFIG)
    theirs = load_config(str(config)) if config.is_file() else cfg
    note = f"The scores are those of --eval-only in {other.parent}"
    checkpoint = theirs.train.get("init_checkpoint")
    # Of runs from before it was kept, it is what training starts from.
    if checkpoint and checkpoint != cfg.train.get("init_checkpoint"):
        note += f", of checkpoint {checkpoint}"
    note += f"; {own} is older, and left out." if own.is_file() else "."
    return Scores(other.parent, theirs, note)


def _written(file: Path) -> float:
    """Return when a file was written; 0 where there is none."""
    return file.stat().st_mtime if file.is_file() else 0.0


def run_names(folders: Sequence[Path]) -> list[str]:
    """Name runs by their folders, with as many of those above as tell one from the others."""
    parts = [folder.resolve().parts for folder in folders]
    return [str(Path(*_own_end(one, [other for other in parts if other != one]))) for one in parts]


def _own_end(parts: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the shortest end of a path that no other has."""
    for depth in range(1, len(parts)):
        if all(other[-depth:] != parts[-depth:] for other in others):
            return parts[-depth:]
    return parts
