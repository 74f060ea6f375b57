"""The scripts in tools/ that draw or write something."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]


def test_the_architecture_is_drawn(tmp_path):
    output = tmp_path / "docs" / "architecture.png"
    script = ROOT / "tools" / "draw_architecture.py"
    done = subprocess.run(
        [sys.executable, str(script), "--output", str(output)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    image = cv2.imread(str(output))
    assert image.shape == (960, 1800, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50  # planes, chips and text
    assert output.stat().st_size < 250_000
