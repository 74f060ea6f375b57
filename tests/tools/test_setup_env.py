"""tools/setup_env.sh, which `make setup` runs: installs, changes, mistakes, interruptions.

The script is run for real, in a copy of the few files it needs, with a stand-in for Python that
notes what it is asked to do. Nothing is downloaded.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A job in the background of a shell ignores Ctrl-C, and so would what it starts.
HEED_CTRL_C = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)

STAND_IN = r"""#!/usr/bin/env bash
# Stands in for Python in the set-up: notes each call, does what the script relies on.
echo "$*" >>"$CALLS"
if [ -n "${HANG_AT-}" ] && [[ "$*" == *"$HANG_AT"* ]]; then sleep 60; fi
if [ -n "${FAIL_AT-}" ] && [[ "$*" == *"$FAIL_AT"* ]]; then echo "$FAIL_WITH"; exit 1; fi
case "$*" in
*version_info*) echo "${FAKE_VERSION:-3.11}" ;;
*include*) mkdir -p include && touch include/Python.h && echo include ;;
*purelib*) mkdir -p .venv/site && echo .venv/site ;;
"-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*" --target "*)
    aside=.venv/.setup/wheel
    mkdir -p $aside/detectron2 $aside/tools $aside/sal_detectron2-0.7.2.dist-info
    printf 'detectron2/__init__.py,,\ntools/__init__.py,,\n' \
        >$aside/sal_detectron2-0.7.2.dist-info/RECORD
    ;;
*" --no-cache-dir "*)
    mkdir -p .venv/site/{detectron2,tools/__pycache__,detectron2-0.6.dist-info}
    touch .venv/site/tools/{__init__,train_net}.py .venv/site/tools/__pycache__/__init__.pyc
    printf '%s,,\n' detectron2/__init__.py tools/__init__.py tools/train_net.py \
        tools/__pycache__/__init__.pyc >.venv/site/detectron2-0.6.dist-info/RECORD
    ;;
esac
"""


class Checkout:
    """A copy of what the set-up needs, and the stand-in it is run with."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.calls_file = folder / "calls"
        (folder / "tools").mkdir(parents=True)
        for name in ("Makefile", "requirements.txt", "setup.py", "tools/setup_env.sh"):
            shutil.copy(ROOT / name, folder / name)
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "python3").write_text(STAND_IN)
        (bin_folder / "c++").write_text("#!/bin/sh\n")
        for program in bin_folder.iterdir():
            program.chmod(0o755)

    def environ(self, **variables: str) -> dict[str, str]:
        ours = ("PYTHON", "DETECTRON2", "CXX", "MAKEFLAGS", "MAKELEVEL", "PYTHONDONTWRITEBYTECODE")
        inherited = {k: v for k, v in os.environ.items() if k not in ours}
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**inherited, "PATH": path, "CALLS": str(self.calls_file), **variables}

    def setup(self, **variables: str) -> subprocess.CompletedProcess:
        self.calls_file.write_text("")
        return subprocess.run(
            ["make", "--no-print-directory", "setup"],
            cwd=self.folder,
            env=self.environ(**variables),
            capture_output=True,
            text=True,
            timeout=300,  # generous: the machine may be busy
        )

    def start(self, **variables: str) -> subprocess.Popen:
        self.calls_file.write_text("")
        return subprocess.Popen(
            ["tools/setup_env.sh"],
            cwd=self.folder,
            env=self.environ(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=HEED_CTRL_C,
        )

    def asked(self, part: str) -> bool:
        """Whether the last set-up called Python with ``part`` among its arguments."""
        return part in self.calls_file.read_text()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path / "inspire_d2")


@pytest.fixture
def detectron2_checkout(tmp_path) -> Path:
    folder = tmp_path / "my detectron2"
    (folder / "detectron2").mkdir(parents=True)
    (folder / "setup.py").touch()
    (folder / "detectron2" / "__init__.py").touch()
    return folder


def errors(result: subprocess.CompletedProcess) -> list[str]:
    return [line for line in result.stderr.splitlines() if not line.startswith("make: ")]


def test_second_setup_does_nothing(checkout):
    first = checkout.setup()
    assert first.returncode == 0, first.stderr
    assert checkout.asked("-m venv") and checkout.asked("-r requirements.txt")
    assert checkout.asked("--require-hashes") and checkout.asked("-e .")
    pysodmetrics = [x for x in checkout.calls_file.read_text().splitlines() if "pysodmetrics" in x]
    assert len(pysodmetrics) == 1 and " install --no-deps " in pysodmetrics[0]
    second = checkout.setup()
    assert second.returncode == 0
    assert second.stdout == "" and checkout.calls_file.read_text() == ""


def test_packages_are_compiled_where_python_would_not_keep_it(checkout):
    checkout.setup()
    assert not checkout.asked("compileall")
    assert checkout.setup(PYTHONDONTWRITEBYTECODE="1").returncode == 0
    assert checkout.calls_file.read_text().splitlines()[-1] == "-m compileall -q -j 0 .venv/site"
    assert checkout.setup(PYTHONDONTWRITEBYTECODE="1").stdout == ""
    checkout.setup(PYTHONDONTWRITEBYTECODE="1", DETECTRON2="source")  # new packages
    assert checkout.asked("compileall")
    # a file that is no Python fails to compile
    failing = {"FAIL_AT": "compileall", "FAIL_WITH": "SyntaxError", "DETECTRON2": "wheel"}
    assert checkout.setup(PYTHONDONTWRITEBYTECODE="1", **failing).returncode == 0


def test_wheel_is_installed_without_its_tools(checkout):
    assert checkout.setup().returncode == 0
    site = checkout.folder / ".venv/site"
    assert {p.name for p in site.iterdir()} == {"detectron2", "sal_detectron2-0.7.2.dist-info"}
    record = site / "sal_detectron2-0.7.2.dist-info" / "RECORD"
    assert record.read_text() == "detectron2/__init__.py,,\n"


@pytest.mark.parametrize("foreign", [False, True])
def test_compiled_detectron2_is_installed_without_its_tools(checkout, foreign):
    tools = checkout.folder / ".venv/site/tools"
    checkout.setup()
    if foreign:
        tools.mkdir()
        (tools / "of_another_package.py").touch()
    assert checkout.setup(DETECTRON2="source").returncode == 0
    left = [path.name for path in tools.rglob("*")]
    assert left == (["of_another_package.py"] if foreign else []) and tools.exists() == foreign
    record = tools.parent / "detectron2-0.6.dist-info" / "RECORD"
    assert record.read_text() == "detectron2/__init__.py,,\n"


def test_change_of_a_pin_is_installed_into_the_same_environment(checkout):
    checkout.setup()
    with open(checkout.folder / "requirements.txt", "a") as requirements:
        requirements.write("six==1.17.0\n")
    assert checkout.setup().returncode == 0
    assert checkout.asked("-r requirements.txt")
    assert not checkout.asked("-m venv") and not checkout.asked("--require-hashes")


def test_switching_detectron2_installs_that_alone_and_is_kept(checkout, detectron2_checkout):
    checkout.setup()
    result = checkout.setup(DETECTRON2=str(detectron2_checkout))
    assert result.returncode == 0, result.stderr
    assert checkout.asked("uninstall --yes detectron2 sal-detectron2")
    assert checkout.asked("install --no-deps --no-build-isolation --no-cache-dir .venv/")
    assert not checkout.asked("-r requirements.txt")

    assert checkout.setup().stdout == ""  # as it was chosen, though the variable is not set
    shutil.rmtree(detectron2_checkout)
    assert checkout.setup().stdout == ""  # it is installed and not needed again

    assert checkout.setup(DETECTRON2="source").returncode == 0
    assert checkout.asked("git+https://github.com/facebookresearch/detectron2@")
    assert checkout.setup(DETECTRON2="wheel").returncode == 0
    assert checkout.asked("--require-hashes")


def test_compiled_detectron2_follows_torch(checkout, detectron2_checkout):
    checkout.setup(DETECTRON2=str(detectron2_checkout))
    requirements = checkout.folder / "requirements.txt"
    requirements.write_text(re.sub(r"(?m)^torch==.*$", "torch==9.9.9", requirements.read_text()))
    assert checkout.setup().returncode == 0
    assert checkout.asked("uninstall --yes detectron2")


def test_detectron2_path_that_is_no_checkout(checkout, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "missing", "sources"):
        result = checkout.setup(DETECTRON2=str(wrong))
        assert result.returncode == 2
        assert len(errors(result)) == 1
        assert errors(result)[0].startswith(f"error: DETECTRON2={wrong} is neither")
    assert not (checkout.folder / ".venv").exists()
    assert checkout.calls_file.read_text() == ""


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.13"])
def test_python_that_the_pins_do_not_fit(checkout, version):
    result = checkout.setup(FAKE_VERSION=version)
    assert result.returncode == 2
    assert len(errors(result)) == 1 and f"is Python {version}, but" in errors(result)[0]
    assert not (checkout.folder / ".venv").exists()


def test_python_that_is_missing_or_has_no_venv(checkout):
    result = checkout.setup(PYTHON="python3.11-of-elsewhere")
    assert result.returncode == 2
    assert errors(result)[0].startswith("error: no working python3.11-of-elsewhere")
    result = checkout.setup(FAIL_AT="ensurepip", FAIL_WITH="No module named ensurepip")
    assert result.returncode == 2
    assert len(errors(result)) == 1 and "apt-get install python3-venv" in errors(result)[0]


@pytest.mark.parametrize(
    ("where", "output", "reason"),
    [
        ("-r requirements.txt", "ERROR: No matching distribution", "No matching dist"),
        ("-r requirements.txt", "Temporary failure in name resolution", "network"),
        ("-r requirements.txt", "OSError: [Errno 28] No space left on device", "disk is full"),
        ("import cv2", "ImportError: libGL.so.1: cannot open shared object", "install libgl1"),
        ("import cv2", "ImportError: libgthread-2.0.so.0: cannot open", "install libgl1"),
    ],
)
def test_failure_is_one_sentence_and_can_be_repeated(checkout, where, output, reason):
    failed = checkout.setup(FAIL_AT=where, FAIL_WITH=output)
    assert failed.returncode == 2
    assert len(errors(failed)) == 1 and reason in errors(failed)[0]
    again = checkout.setup()
    assert again.returncode == 0, again.stderr
    assert checkout.asked(where)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(
    "where", ["-m venv", "-r requirements.txt", "pysodmetrics", "--require-hashes", "-e ."]
)
def test_interrupted_setup_can_be_run_again(checkout, where, how):
    process = checkout.start(HANG_AT=where)
    deadline = time.monotonic() + 50
    while not checkout.asked(where) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, how)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert how == signal.SIGKILL or "interrupted" in stderr

    assert checkout.setup().returncode == 0
    assert checkout.asked(where)
    # What pip left half-way cannot be trusted: then .venv is made anew.
    anew = ("-m venv", "-r requirements.txt", "pysodmetrics")
    assert checkout.asked("-m venv") == (where in anew)
    assert checkout.setup().stdout == ""
