"""The scripts in tools/ that draw something."""

import runpy
from pathlib import Path

import cv2
import numpy as np

TOOLS = Path(__file__).parents[1] / "tools"


def test_the_architecture_is_drawn(tmp_path, capsys):
    output = tmp_path / "docs" / "architecture.png"
    main = runpy.run_path(str(TOOLS / "draw_architecture.py"))["main"]
    main(["--output", str(output)])
    assert str(output) in capsys.readouterr().out
    image = cv2.imread(str(output))
    assert image.shape == (960, 1800, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50  # planes, chips and text
    assert output.stat().st_size < 250_000
