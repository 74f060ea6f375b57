"""Tiny data sets in temporary folders, and the command line tool that prepares them."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from .mri_helpers import ORIENTATIONS, save_brats

ROOT = Path(__file__).resolve().parents[2]


def draw(number: int, size: tuple[int, int] = (48, 40)) -> tuple[Image.Image, Image.Image]:
    """Return a random photo of (width, height) and a mask with one 12x10 polyp."""
    rng = np.random.default_rng(number)
    photo = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    mask = np.zeros((size[1], size[0]), np.uint8)
    y, x = rng.integers(0, [size[1] - 10, size[0] - 12])
    mask[y : y + 10, x : x + 12] = 255
    return Image.fromarray(photo), Image.fromarray(mask)


@pytest.fixture
def make_folders() -> Callable[..., None]:
    """Write pairs of random images and masks: make(images, masks, names, mask_name="{}.png")."""

    def make(
        images: Path, masks: Path, names: Sequence[str], image: str = "{}.jpg", mask: str = "{}.png"
    ) -> None:
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            photo, label = draw(number)
            photo.save(images / image.format(name))
            label.save(masks / mask.format(name))

    return make


@pytest.fixture
def kvasir(tmp_path: Path, make_folders: Callable[..., None]) -> Path:
    """A folder in Kvasir-SEG's layout with ten images, a0 .. a9."""
    root = tmp_path / "kvasir"
    make_folders(root / "images", root / "masks", [f"a{i}" for i in range(10)])
    return root


def load_script(name: str) -> ModuleType:
    """Import a script of datasets/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "datasets" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load() -> Callable[[str], ModuleType]:
    """Import a script of datasets/ by its name."""
    return load_script


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    """datasets/prepare_polyps.py as a module."""
    return load_script("prepare_polyps")


@pytest.fixture
def refused(tool: ModuleType, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Run the tool, expect exit code 2 and nothing written, and return what it said."""

    def run(*arguments: object, output: Path) -> str:
        before = {p: p.read_bytes() for p in output.rglob("*")} if os.path.isdir(output) else None
        with pytest.raises(SystemExit) as stop:
            tool.main([str(argument) for argument in (*arguments, "--output", output)])
        said = capsys.readouterr().err
        assert stop.value.code == 2, said
        assert "Traceback" not in said
        after = {p: p.read_bytes() for p in output.rglob("*")} if os.path.isdir(output) else None
        assert after == before
        return said

    return run


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Let this process be one of several: as_rank(rank, world_size)."""

    def become(rank: int, world_size: int) -> None:
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: rank)
        monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: world_size)

    return become


@pytest.fixture(scope="session")
def prepare_mri_tool() -> ModuleType:
    """datasets/prepare_mri.py as a module."""
    return load_script("prepare_mri")


@pytest.fixture
def prepare_mri(prepare_mri_tool: ModuleType) -> Callable[..., None]:
    return lambda *arguments: prepare_mri_tool.main([str(argument) for argument in arguments])


@pytest.fixture
def mri_refused(
    prepare_mri: Callable[..., None], capsys: pytest.CaptureFixture
) -> Callable[..., str]:
    """Run the tool, expect exit code 2, and return what it said."""

    def refuse(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            prepare_mri(*arguments)
        said = capsys.readouterr().err
        assert stop.value.code == 2, said
        assert "Traceback" not in said
        return said

    return refuse


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    """Five cases, the last two of one patient."""
    root = tmp_path / "brats"
    names = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-000",
             "BraTS-GLI-00004-000", "BraTS-GLI-00004-001")  # fmt: skip
    for name in names:
        save_brats(root, name, (1, 2, 3), ORIENTATIONS["LPS"])
    return root
