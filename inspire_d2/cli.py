"""The commands that pip installs, ``inspire-d2-train`` and others; setup.py names them.

Each is one of the repository's scripts, run as ``python SCRIPT`` runs it. A wheel holds the scripts
in a folder beside this module, laid out as they are in a checkout.
"""

import ast
import sys
from pathlib import Path
from types import ModuleType

__all__ = [
    "convert_torchvision",
    "export",
    "predict",
    "predict_mri",
    "prepare_mri",
    "prepare_polyps",
    "report",
    "submit",
    "summarize",
    "train",
]

_INSTALLED = Path(__file__).with_name("scripts")
SCRIPTS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1]


def train() -> None:
    """Train or score a model from a LazyConfig."""
    _run("train_net.py")


def predict() -> None:
    """Find polyps in images and videos with a trained model."""
    _run("tools/predict.py")


def predict_mri() -> None:
    """Segment volumes of MRI with a trained model."""
    _run("tools/predict_mri.py")


def prepare_polyps() -> None:
    """Turn polyp images and masks into annotations."""
    _run("datasets/prepare_polyps.py")


def prepare_mri() -> None:
    """Turn volumes of MRI into arrays and an index."""
    _run("datasets/prepare_mri.py")


def convert_torchvision() -> None:
    """Turn torchvision's weights into a checkpoint to start from."""
    _run("tools/convert_torchvision.py")


def summarize() -> None:
    """Print a table of finished runs."""
    _run("tools/summarize_runs.py")


def report() -> None:
    """Make a page about a run, or two."""
    _run("tools/report.py")


def submit() -> None:
    """Train as a job of Slurm."""
    _run("tools/submit.py")


def export() -> None:
    """Export a trained model to ONNX or TorchScript."""
    _run("tools/export.py")


def _run(script: str) -> None:
    """Run a script as the main module, with help that names the command that was called.

    ``runpy`` would do, but for the name: it puts the script's file in place of the command.
    """
    path = SCRIPTS / script
    tree = ast.parse(path.read_bytes(), str(path))
    docstring = tree.body[0].value  # what --help prints
    docstring.value = docstring.value.replace(f"python {script}", Path(sys.argv[0]).name)
    # Spawned processes import the main module anew, by its file.
    main = ModuleType("__main__")
    main.__file__ = str(path)
    sys.modules["__main__"] = main
    exec(compile(tree, str(path), "exec"), main.__dict__)
