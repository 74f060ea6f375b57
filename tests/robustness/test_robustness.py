"""The whole corpus, and that the runner sees what it is there to see."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from . import runner
from .case import CANARY, RESULT, SENTENCE, Case
from .runner import run_case

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_no_input_breaks_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.robustness", "--keep", str(tmp_path / "failed")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    total = done.stdout.splitlines()[-1].split("|")
    assert total[1].strip() == "all" and int(total[2]) >= 300


def says(text: str, code: int) -> Callable[[list[str]], None]:
    def command(_: list[str]) -> None:
        print(text, file=sys.stderr)
        sys.exit(code)

    return command


def raises(_: list[str]) -> None:
    raise RuntimeError("broken")


def writes(name: str) -> Callable[[list[str]], None]:
    return lambda _: Path(name).write_text("mine")


def takes_memory(_: list[str]) -> bytes:
    return b"x" * 1_000_000_000


def takes_time(_: list[str]) -> None:
    while True:
        time.process_time()


@pytest.mark.parametrize(
    ("command", "wanted", "problem"),
    [
        (lambda _: None, RESULT, ""),
        (lambda _: None, SENTENCE, "came to a result"),
        (says("error: a.png is broken", 2), SENTENCE, ""),
        (says("error: a.png is broken", 2), RESULT, "came to a sentence"),
        (says("error: something is broken", 2), SENTENCE, "said nothing of 'a.png'"),
        (says("a.png is broken", 2), SENTENCE, "ended without a sentence"),
        (says("error: a.png is broken", 1), SENTENCE, "ended with exit code 1"),
        (raises, SENTENCE, "ended with a traceback"),
        (lambda _: os.kill(os.getpid(), 9), SENTENCE, "ended by signal 9"),
        (writes("out/found"), RESULT, ""),
        (writes("found"), RESULT, "touched found"),
        (writes("given"), RESULT, "touched given"),
        (writes(CANARY), RESULT, "touched canary"),
        (takes_memory, RESULT, "took "),
    ],
)
def test_runner_sees_what_is_wrong(
    command: Callable[[list[str]], None],
    wanted: str,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A forked process begins with the memory of this one, which has run other tests.
    monkeypatch.setattr(runner, "MAX_BYTES", psutil.Process().memory_info().rss + 500e6)

    def build(folder: Path) -> list[str]:
        (folder / "given").write_text("theirs")
        return []

    case = Case("kind", "name", "command", build, wanted, "a.png" if wanted == SENTENCE else "")
    outcome = run_case(case, command, tmp_path / "case")
    assert outcome.problem.startswith(problem) and bool(outcome.problem) == bool(problem)


def test_runner_ends_what_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_WAIT", 0.5)
    case = Case("kind", "name", "command", lambda _: [])
    assert run_case(case, takes_time, tmp_path / "case").problem == "took more than 0 s"
