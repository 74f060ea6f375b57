"""Scoring several checkpoints of one config in one go."""

import copy
import functools
import glob
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.utils import comm
from omegaconf import DictConfig
from tabulate import tabulate

from ..errors import CheckpointError, InputError, first_few
from .checkpoint_files import replace_file
from .config import save_config
from .trainer import run_evaluation, without_nan

__all__ = ["find_checkpoints", "score_checkpoints", "score_table"]

logger = logging.getLogger(__name__)

# The first of these that a model has decides the order.
MAIN_METRICS = (
    ("segm", "AP"),
    ("panoptic_seg", "PQ"),
    ("sem_seg", "mIoU"),
    ("bbox", "AP"),
    ("polyp", "Dice"),
    ("volume", "Dice"),
)
COLUMNS = (
    *MAIN_METRICS,
    ("segm", "AP50"),
    ("bbox", "AP50"),
    ("polyp", "IoU"),
    ("polyp", "recall"),
    ("polyp", "fp_per_image"),
)


def find_checkpoints(patterns: Sequence[str]) -> list[str]:
    """Return the files that match names or globs, each once, in order.

    Of a glob the folder that is there as it is written is that folder, brackets or not.

    Raises:
        InputError: nothing matches one of them.
    """
    paths: list[str] = []
    for pattern in patterns:
        found = [pattern] if os.path.isfile(pattern) else _matching(pattern)
        if not found:
            raise InputError(f"--checkpoint {pattern}: there is no such file.")
        paths += [path for path in found if path not in paths]
    return paths


def _matching(pattern: str) -> list[str]:
    folder = os.path.dirname(pattern)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    paths = glob.glob(glob.escape(folder) + pattern[len(folder) :])
    return sorted(path for path in paths if os.path.isfile(path))


def score_checkpoints(cfg: DictConfig, paths: Sequence[str]) -> dict[str, Any]:
    """Score each checkpoint in a folder of its own in ``train.output_dir``; tell a table of all.

    Writes table.md and scores.json there, the best checkpoint last. Returns {path: results} on the
    main process.

    Raises:
        InputError: at the end, if there were checkpoints that do not fit; of all else, at once.
    """
    output_dir = cfg.train.output_dir
    scores: dict[str, Any] = {}
    refused: list[str] = []
    for path, name in zip(paths, _names(paths), strict=True):
        logger.info("Checkpoint %d of %d: %s", len(scores) + len(refused) + 1, len(paths), path)
        mine = copy.deepcopy(cfg)
        mine.train.output_dir = os.path.join(output_dir, name)
        mine.train.init_checkpoint = path  # its config says what was scored
        os.makedirs(mine.train.output_dir, exist_ok=True)
        config_file = os.path.join(mine.train.output_dir, "config.yaml")
        ready = functools.partial(save_config, copy.deepcopy(mine), config_file)
        try:
            scores[path] = run_evaluation(mine, path, ready=ready)
        except CheckpointError as error:
            # No other InputError: of a file that one process reads, which the others wait for.
            logger.error("%s", error)
            refused.append(str(error))
    if comm.is_main_process() and scores:
        table = score_table(scores)
        logger.info("%d checkpoints, the best last:\n%s", len(scores), table)
        text = json.dumps(without_nan(scores), indent=2, allow_nan=False)
        replace_file(os.path.join(output_dir, "table.md"), table + "\n")
        replace_file(os.path.join(output_dir, "scores.json"), text + "\n")
    if refused:
        raise InputError(
            f"{len(refused)} of {len(paths)} checkpoints were not scored: {first_few(refused, 3)}"
        )
    return scores


def score_table(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Lay {checkpoint: {task: {metric: value}}} out as a Markdown table, the best last.

    The best is that of the highest first metric of MAIN_METRICS. A checkpoint chosen so on a test
    set is no measure of what to expect elsewhere, which the table says.
    """
    columns = [c for c in COLUMNS if any(c[1] in s.get(c[0], {}) for s in scores.values())]
    main = columns[0] if columns else ("", "")

    def value(path: str) -> float:
        found = scores[path].get(main[0], {}).get(main[1])
        return float("-inf") if found is None or found != found else found

    order = sorted(scores, key=value)
    rows = [
        [path, *(scores[path].get(task, {}).get(metric) for task, metric in columns)]
        for path in order
    ]
    head = ["checkpoint", *(f"{task} {metric}" for task, metric in columns)]
    table = tabulate(rows, head, tablefmt="pipe", floatfmt=".4g", missingval="-")
    note = f"By {' '.join(main)}. To choose by scores, score what is not the test set."
    return f"{table}\n\n{note}"


def _names(paths: Sequence[str]) -> list[str]:
    """Name a folder for each checkpoint: its stem, its folder's name before it where needed."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    folders = [os.path.basename(os.path.dirname(os.path.abspath(path))) for path in paths]
    names = [f"{folder}_{stem}" for folder, stem in zip(folders, stems, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{index}_{name}" for index, name in enumerate(names)]
    return names
