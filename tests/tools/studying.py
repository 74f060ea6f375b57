"""What the tests of tools/study.py share: a study in this process, and runs that are finished."""

import io
import json
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from inspire_d2.engine.config import load_config, save_config
from tools.study import CONFIGS, main

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 6


def study(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the study in this process, which has imported what it needs."""
    out, err = io.StringIO(), io.StringIO()
    command = list(map(str, arguments))
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stopped:
        main(command)
    return subprocess.CompletedProcess(command, stopped.value.code, out.getvalue(), err.getvalue())


def finish(
    output: Path, centre: str, variant: str, seed: int, dice: list[float], task: str = "semantic"
) -> None:
    """Leave what train_net.py leaves of a run, as far as the study reads it."""
    folder = output / "runs" / task / centre / variant / f"seed{seed}"
    folder.mkdir(parents=True)
    options = ["model.backbone.steps=1"] if variant == "steps1" else []
    options += [f"train.init_checkpoint={output.parent / 'weights.pkl'}", f"train.seed={seed}"]
    config = CONFIGS[task][not variant.startswith("plain")]
    cfg = load_config(str(ROOT / f"configs/polyp/{config}.py"), options)
    save_config(cfg, str(folder / "config.yaml"))
    scores = {"polyp": {"Dice": float(np.mean(dice))}}
    (folder / "evaluation.json").write_text(json.dumps(scores))
    (folder / "last_checkpoint").write_text("model_final.pth")
    seconds = {"plain": 2.0, "steps1": 3.0}[variant]
    (folder / "metrics.json").write_text(json.dumps({"time": seconds}) + "\n")
    rows = [
        {"image_id": i, "dice": d, "num_gt": 1, "gt_pixels": 100 if i < 2 else 900}
        for i, d in enumerate(dice)
    ]
    (folder / "polyp_per_image.json").write_text(json.dumps(rows))
