"""The environment that `make setup` makes."""

import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(sysconfig.get_path("purelib"))

# Whoever installs inspire_d2 into an environment of their own is free to choose versions.
pinned = pytest.mark.skipif(
    Path(sys.prefix).resolve() != (ROOT / ".venv").resolve(),
    reason="not the environment of `make setup`",
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    return {
        canonical(dist.metadata["Name"]): dist.version
        for dist in metadata.distributions(path=[str(SITE)])
    }


# --- The environment ------------------------------------------------------------------------------


@pinned
def test_installed_versions_are_the_pinned_ones():
    text = (ROOT / "requirements.txt").read_text()
    pins = dict(re.findall(r"(?m)^(?:# no-deps: )?([\w.-]+)==(\S+)", text))
    have = installed()
    wrong = {
        name: (version, have.get(canonical(name)))
        for name, version in pins.items()
        if have.get(canonical(name)) != version
    }
    assert len(pins) > 20 and "pysodmetrics" in pins
    assert not wrong, f"pinned, installed: {wrong}"


@pinned
def test_one_opencv_and_one_numpy():
    names = [canonical(d.metadata["Name"]) for d in metadata.distributions(path=[str(SITE)])]
    assert [name for name in names if name.startswith("opencv")] == ["opencv-python"]
    assert names.count("numpy") == 1
    assert int(installed()["numpy"].split(".")[0]) < 2


@pinned
def test_opencv_and_numpy_are_those_of_the_pins():
    """A second OpenCV leaves its files, and a newer numpy, behind even where pip removes it."""
    import cv2
    import numpy

    pins = dict(re.findall(r"(?m)^(\S+)==(\S+)", (ROOT / "requirements.txt").read_text()))
    assert numpy.__version__ == pins["numpy"]
    assert pins["opencv-python"].startswith(cv2.__version__)
    assert not cv2.version.headless and Path(cv2.__file__).is_relative_to(SITE)


@pinned
def test_one_detectron2():
    have = installed()
    assert ("detectron2" in have) + ("sal-detectron2" in have) == 1


@pinned
def test_requirements_of_installed_packages_are_met():
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"]
    result = subprocess.run(command, capture_output=True, text=True)
    # The wheel of Detectron2 is tagged for Python 3.10; its Python code is what we use of it.
    complaints = [
        line
        for line in result.stdout.splitlines()
        if line != "No broken requirements found."
        # It is met by opencv-python, which has the same modules and more.
        and not re.fullmatch(r"pysodmetrics \S+ requires opencv-python-headless, .*", line)
        and not re.fullmatch(r"sal-detectron2 \S+ is not supported on this platform", line)
    ]
    assert not complaints, complaints


def test_no_stray_tools_package():
    assert not (SITE / "tools").exists()


# --- The import -----------------------------------------------------------------------------------


def run_isolated(code: str, *path: Path) -> subprocess.CompletedProcess:
    """Run code in a Python that sees the standard library and ``path`` only."""
    code = f"import sys; sys.path[:0] = {[str(p) for p in path]}; {code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("folder", [False, True], ids=["nothing", "a mere folder"])
def test_import_without_detectron2_says_how_to_get_it(folder, tmp_path):
    if folder:  # for instance a checkout next to the script: a namespace package, but not ours
        (tmp_path / "detectron2" / "configs").mkdir(parents=True)
    result = run_isolated("import inspire_d2", ROOT, tmp_path)
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: inspire_d2 needs Detectron2")
    assert "make setup" in message


def test_import_is_cheap(tmp_path):
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("raise RuntimeError('imported')")
    result = run_isolated("import inspire_d2; print(inspire_d2.__version__)", ROOT, tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize(
    "command, chosen, turns",
    [
        ("train_net", {}, 10_000),
        ("tools.benchmark", {}, 10_000),
        ("train_net", {"GOMP_SPINCOUNT": "7"}, 7),
        ("train_net", {"OMP_WAIT_POLICY": "PASSIVE"}, 0),
    ],
    ids=["train", "measure", "turns chosen", "policy chosen"],
)
def test_waiting_threads_sleep_soon(command: str, chosen: dict[str, str], turns: int) -> None:
    # What the library of threads itself says it does, in the command's order of imports.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    said = subprocess.run(
        [sys.executable, "-c", f"import {command}, torch"],
        cwd=ROOT,
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"} | chosen,
        capture_output=True,
        text=True,
    ).stderr
    spin = re.search(r"GOMP_SPINCOUNT = '(\d+)'", said)
    if spin is None:
        pytest.skip("PyTorch's threads are not libgomp's here")
    assert int(spin[1]) == turns
