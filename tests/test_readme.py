"""README.md's commands and code, run as they stand on a few synthetic images.

Commands are read from the page. What is added to them only makes them short (few iterations,
small images) or spares a download, and they share one import of what they need. `make` is what
runs this test; its DETECTRON2 choices need a network or a checkout.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import OmegaConf

from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.engine.config import load_config
from inspire_d2.modeling import InspireFPN

from .warm_python import WarmPython

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "README.md").read_text()
FEW = [
    "train.max_iter=2",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
]
SHORT = {
    "configs/mri": [*FEW, "dataloader.train.mapper.patch_size=[32,32]"],
    "train_net.py": [
        *FEW,
        "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
        "dataloader.test.mapper.augmentations.0.short_edge_length=64",
    ],
    "tools/convert_torchvision.py": ["--weights", "resnet18.pth"],
    "datasets/make_synthetic_mri.py": ["--shape", "32", "32", "16"],
}


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def test_every_command_is_of_a_kind_that_is_run() -> None:
    for words in commands():
        assert words[0] == "python" or "make" in words, words


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Lay a working folder out as a user's: the checkout's files, and images of their own."""
    for name in ("configs", "tools", "train_net.py", "inspire_d2"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "datasets").mkdir()
    for path in REPOSITORY.glob("datasets/*.py"):
        (tmp_path / "datasets" / path.name).symlink_to(path)
    # a seed whose one held-out image has polyps to score
    write_synthetic_set(tmp_path / "my", 10, seed=6, size=96)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    shutil.copy(tmp_path / "my" / "images" / "synthetic_00000.jpg", tmp_path / "polyp.jpg")
    return tmp_path


@pytest.mark.slow
def test_commands_run_in_their_order(checkout: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with WarmPython(environment) as python:
        printed = run_commands(python, checkout)
    # The trained model, used from Python: scores and masks of a size are printed.
    code = next(block for block in blocks("python") if "inspire_d2.load" in block)
    used = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert used.returncode == 0 and "torch.Size" in used.stdout, used.stdout + used.stderr
    assert len(list((checkout / "my_predicted" / "overlays").iterdir())) == 10
    # The table that the last command prints has a row for each of the two runs.
    assert {"my", "my2"} <= {line.split("|")[1].strip() for line in printed.splitlines()[2:]}


def run_commands(python: WarmPython, checkout: Path) -> str:
    """Run all; return what the last has printed."""
    for words in commands():
        # COCO on 8 GPUs: tests/test_coco_configs.py trains these configs. What needs a cluster:
        # tests/tools/test_submit.py.
        elsewhere = any("configs/coco/" in word for word in words) or words[1] == "tools/submit.py"
        if words[0] != "python" or elsewhere:
            continue
        short = next((more for what, more in SHORT.items() if what in " ".join(words)), [])
        process = python.run([*words[1:], *short], checkout)
        assert process.returncode == 0, f"{words}\n{process.stdout[-3000:]}{process.stderr[-3000:]}"
    return process.stdout


def test_code_builds_the_model() -> None:
    code = next(block for block in blocks("python") if "InspireFPN" in block)
    assert len([line for line in code.splitlines() if line]) <= 8
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["model"].backbone, InspireFPN)


def test_configs_of_your_own_load(tmp_path: Path) -> None:
    texts = (TEXT, (REPOSITORY / "datasets/README.md").read_text())
    own = [b for text in texts for b in blocks("python", text) if "globals().update" in b]
    assert len(own) == 2
    for number, code in enumerate(own):
        file = tmp_path / f"own{number}.py"
        file.write_text(code)
        cfg = load_config(str(file))
        assert cfg.train.output_dir in ("runs/my", "runs/mine")
        assert cfg.dataloader.test.dataset.json_file.endswith("/annotations/val.json")
        names = OmegaConf.to_container(cfg.dataloader, resolve=True)
        evaluators = names["evaluator"].get("evaluators", [names["evaluator"]])
        assert {one["dataset_name"] for one in evaluators} == {names["test"]["dataset"]["name"]}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if "://" not in target:
            path, _, heading = target.partition("#")
            assert (REPOSITORY / path).exists(), target
            if heading:
                lines = (REPOSITORY / path).read_text().lower().splitlines()
                assert any(line.lstrip("# ").replace(" ", "-") == heading for line in lines), target
