"""One training of tools/study.py: its command, how far it is, and whether it is finished."""

import argparse
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.study_variants import Variant

__all__ = ["CONFIGS", "REPOSITORY", "Run", "config_of", "data_overrides"]

REPOSITORY = Path(__file__).resolve().parents[1]
# What train_net.py's log says: the iterations every so often, the time left before the first, too.
_DONE = re.compile(rb"iteration (\d+) of (\d+) ")
_LEFT = re.compile(rb"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d) left")
# Task: the config without INSPIRE, and the one with it.
CONFIGS = {
    "semantic": ("semantic_fpn_r18_plain", "semantic_fpn_r18_inspire"),
    "unet": ("unet_r18_plain", "unet_r18_inspire"),
    "detection": ("mask_rcnn_r18_fpn", "mask_rcnn_r18_inspire"),
}


@dataclass(frozen=True)
class Run:
    """One training: a variant and a seed, with one centre held out, or on a split so named."""

    task: str
    variant: str
    changes: Variant
    centre: str
    seed: int
    folder: Path
    data: Path

    def command(self, args: argparse.Namespace) -> list[str]:
        """Return the train_net.py command that runs it, or goes on with it."""
        config = CONFIGS[self.task][self.changes.inspire]
        command = [sys.executable, "train_net.py", "--config-file", f"configs/polyp/{config}.py"]
        if (self.folder / "last_checkpoint").exists():
            command.append("--resume")
        command += data_overrides(self.centre, self.data / self.centre)
        return [*command, f"train.output_dir={self.folder}", *self.overrides(args)]

    def overrides(self, args: argparse.Namespace) -> list[str]:
        """Return what makes its training another than the config's."""
        return [
            f"train.init_checkpoint={args.weights}",
            f"train.seed={self.seed}",
            f"train.max_iter={round(args.iterations * self.changes.length)}",
            *self.changes.overrides,
        ]

    @property
    def finished(self) -> bool:
        """Whether it has been scored, of weights that its last iteration left.

        One that fails in that very iteration is scored, too, before it says so.
        """
        last = self.folder / "last_checkpoint"
        return (
            (self.folder / "evaluation.json").exists()
            and last.exists()
            and last.read_text().strip() == "model_final.pth"
        )

    def failure(self) -> str:
        """Return why it failed, where its log ends with a sentence, and where that log is."""
        log = self.folder / "study.log"
        last = log.read_text(errors="replace").rstrip().rpartition("\n")[2]
        reason = last.removeprefix("error: ")
        return f"see {log}" if reason == last else f"{reason} (log: {log})"

    def progress(self) -> tuple[str, float] | None:
        """Return how many iterations its log says are done, and the seconds left; None before."""
        with open(self.folder / "study.log", "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 65536))
            end = log.read()
        left, done = list(_LEFT.finditer(end)), list(_DONE.finditer(end))
        if not left:
            return None
        days, hours, minutes, seconds = (int(part or 0) for part in left[-1].groups())
        text = " of ".join(part.decode() for part in done[-1].groups()) if done else "begun"
        return text, ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    def __str__(self) -> str:
        return f"{self.centre}/{self.variant}/seed{self.seed}"


def data_overrides(name: str, folder: Path) -> list[str]:
    """Return what makes the data another than a config's: a folder's train.json and val.json."""
    overrides = []
    for split, part in (("train", "train"), ("test", "val")):
        dataset = f"dataloader.{split}.dataset"  # apart: a path may hold braces
        overrides += [
            f"{dataset}.name=study_{name}_{part}",
            f"{dataset}.json_file={folder / part}.json",
            f"dataloader.{split}.num_workers=1",
        ]
    return overrides


def config_of(task: str, inspire: bool) -> Path:
    """Return the path of a task's config, with INSPIRE or without it."""
    return REPOSITORY / "configs" / "polyp" / f"{CONFIGS[task][inspire]}.py"
