"""Synthetic sets that are interrupted, and folders of odd names."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from inspire_d2.data.layouts import find_pairs
from inspire_d2.data.problems import Problems
from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.errors import InputError

DATASETS = Path(__file__).parents[2] / "datasets"
# A job in the background of a shell ignores Ctrl-C, and so would what it starts.
HEED_CTRL_C = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
LONG = "x" * 300


def interrupted(script: str, root: Path, made: str, *arguments: str) -> None:
    """Press Ctrl-C once ``root`` holds one of the files ``made``."""
    command = [sys.executable, DATASETS / f"{script}.py", "--output", root, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=HEED_CTRL_C) as process:
        while not any(root.glob(made)) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "interrupted, the set is not complete: make it again"


def test_a_set_that_was_interrupted_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    interrupted("make_synthetic", root, "masks/*2.png", "--size", "64", "--num-images", "99999")
    with pytest.raises(InputError, match=f"the synthetic set {root} was not written to its end"):
        find_pairs("kvasir", root, Problems(root))
    last = sorted((root / "images").iterdir())[-1].stem
    count = 1 + int(last.rpartition("_")[2])
    write_synthetic_set(root, count, size=64)
    assert len(find_pairs("kvasir", root, Problems(root))) == count


def test_mri_that_was_interrupted_is_refused_and_begun_again(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    from inspire_d2.data.mri_layouts import find_cases
    from inspire_d2.data.synthetic_mri import write_synthetic_mri

    root = tmp_path / "mri"
    arguments = ("--cases", "5", "--shape", "64", "64", "32")
    interrupted("make_synthetic_mri", root, "*_001/*seg.nii.gz", *arguments)
    with pytest.raises(InputError, match="was not written to its end"):
        find_cases("brats", root, Problems(root))
    with pytest.raises(InputError, match="holds files already"):
        write_synthetic_mri(root, 3, shape=(64, 64, 32))
    write_synthetic_mri(root, 5, shape=(64, 64, 32))
    assert len(find_cases("brats", root, Problems(root))) == 5


def test_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/s\xff"
    command = [sys.executable, DATASETS / "make_synthetic.py", "--output", root, "--num-images=2"]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"/s\\udcff\n")
    assert len(os.listdir(root + b"/masks")) == 2


@pytest.mark.parametrize("script", ["make_synthetic", "make_synthetic_mri"])
def test_a_name_that_is_too_long(
    script: str, load: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stop:
        load(script).main(["--output", str(tmp_path / LONG)])
    assert stop.value.code == 2
    assert "File name too long" in capsys.readouterr().err
