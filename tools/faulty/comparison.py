"""Whether two runs are the same, bit for bit: weights, optimizer, losses, scores."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

__all__ = ["differences"]

# What a metrics.json tells of the machine and not of the training.
OF_THE_MACHINE = {"time", "data_time", "rank_data_time", "memory_gb", "eta_seconds"}


def differences(one: Path, other: Path, limit: int = 5) -> list[str]:
    """Say in what two finished runs differ, in at most ``limit`` sentences; [] if in nothing.

    Compared are ``model_final.pth`` (weights, the optimizer's state, the iteration), the lines of
    ``metrics.json`` and ``evaluation.json``.
    """
    found = [*_of_checkpoints(one, other), *_of_metrics(one, other), *_of_scores(one, other)]
    if len(found) > limit:
        found[limit - 1 :] = [f"and {len(found) - limit + 1} more"]
    return found


def _of_checkpoints(one: Path, other: Path) -> Iterator[str]:
    states = []
    for run in (one, other):
        path = run / "model_final.pth"
        if not path.is_file():
            yield f"{path} is not there"
            return
        saved = torch.load(path, map_location="cpu", weights_only=True)
        states.append(
            {
                "model": saved["model"],
                "optimizer": saved["trainer"]["optimizer"],
                "iteration": saved["iteration"],
            }
        )
    yield from _of_values(*states, "model_final.pth")


def _of_metrics(one: Path, other: Path) -> Iterator[str]:
    lines = [_trained(run) for run in (one, other)]
    if isinstance(lines[1], str) or isinstance(lines[0], str):
        yield from (line for line in lines if isinstance(line, str))
        return
    yield from _of_values(*lines, "metrics.json")


def _trained(run: Path) -> dict[str, Any] | str:
    """Return what metrics.json says of each iteration, or what is wrong with the file."""
    path = run / "metrics.json"
    if not path.is_file():
        return f"{path} is not there"
    trained: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            return f"{path} has a broken line"
        if "total_loss" not in values:  # a line of scores
            continue
        name = f"iteration {values['iteration']}"
        if name in trained:
            return f"{path} has {name} twice"
        # Scores stand in a line of their own or in an iteration's, as the case may be.
        trained[name] = {
            key: value
            for key, value in values.items()
            if key not in OF_THE_MACHINE and not key.startswith(("bbox/", "segm/", "polyp/"))
        }
    return trained


def _of_scores(one: Path, other: Path) -> Iterator[str]:
    scores = []
    for run in (one, other):
        path = run / "evaluation.json"
        if not path.is_file():
            yield f"{path} is not there"
            return
        scores.append(json.loads(path.read_text()))
    yield from _of_values(*scores, "evaluation.json")


def _of_values(one: Any, other: Any, where: str) -> Iterator[str]:
    """Compare what a checkpoint or a JSON file holds."""
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, dict):
        yield from _of_keys(one.keys(), other.keys(), where)
        for key in one:
            if key in other:
                yield from _of_values(one[key], other[key], f"{where}: {key}")
    elif isinstance(one, (list, tuple)):
        yield from _of_keys(range(len(one)), range(len(other)), where)
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            yield from _of_values(left, right, f"{where}: {index}")
    elif isinstance(one, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            yield f"{where}: tensors of another kind"
        elif not torch.equal(one, other):
            gap = (one.double() - other.double()).abs().max().item()
            yield f"{where}: tensors differ by up to {gap:.3g}"
    elif one != other and not (isinstance(one, float) and math.isnan(one) and math.isnan(other)):
        yield f"{where}: {one} and {other}"


def _of_keys(one: Iterable[Any], other: Iterable[Any], where: str) -> Iterator[str]:
    for key in one:
        if key not in other:
            yield f"{where}: the second has no {key}"
    for key in other:
        if key not in one:
            yield f"{where}: the first has no {key}"
