"""Runs cases, each in a process forked from one that has everything imported.

A case fails where its command ends otherwise than it must, with a traceback, after more than
10 seconds of a CPU's time or a minute of the clock's, with 2 GB of memory or more, or with a file
changed outside of its output folder.
"""

import gc
import hashlib
import importlib
import os
import resource
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .case import CANARY, EITHER, RESULT, SENTENCE, Case

__all__ = ["Outcome", "preload", "run_case"]

ROOT = Path(__file__).resolve().parents[2]
# What commands import when they need it: seconds in each process, were it not here already
IMPORTED_LATER = (
    "inspire_d2.engine.scoring",
    "inspire_d2.evaluation.polyp_protocol",
    "inspire_d2.visualization",
    "matplotlib.pyplot",
    "torch.utils.tensorboard",
)
MAX_SECONDS, MAX_WAIT, MAX_BYTES = 10.0, 60.0, 2e9


@dataclass(frozen=True)
class Outcome:
    """What a case came to: RESULT, SENTENCE, or what was wrong."""

    case: Case
    came_to: str
    problem: str
    seconds: float
    bytes: float
    sentence: str


def preload() -> dict[str, Callable[[Sequence[str]], object]]:
    """Import all that the commands import, once; return them by name."""
    import datasets.prepare_mri
    import datasets.prepare_polyps
    import tools.convert_torchvision
    import tools.predict
    import tools.predict_mri
    import tools.score_predictions
    import tools.summarize_runs

    for name in IMPORTED_LATER:
        importlib.import_module(name)
    gc.freeze()  # a forked process that collects garbage copies what it looks at
    return {
        "train": _train,
        "load": _load,
        "prepare_mri": datasets.prepare_mri.main,
        "prepare_polyps": datasets.prepare_polyps.main,
        "convert": tools.convert_torchvision.main,
        "predict": tools.predict.main,
        "predict_mri": tools.predict_mri.main,
        "score": tools.score_predictions.main,
        "summarize": tools.summarize_runs.main,
    }


def _train(words: Sequence[str]) -> None:
    sys.argv = ["train_net.py", *words]
    runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")


def _load(words: Sequence[str]) -> None:
    """Load a run in Python, where an InputError takes the place of the exit code."""
    import inspire_d2
    from inspire_d2.errors import exit_on_input_error

    with exit_on_input_error():
        print(inspire_d2.load(*words, device="cpu"))


def run_case(case: Case, command: Callable[[Sequence[str]], object], folder: Path) -> Outcome:
    """Run a case in an empty folder."""
    work = folder / "work"
    work.mkdir(parents=True)
    words = case.build(work)
    (work / "out").mkdir(exist_ok=True)
    before = dict(_snapshot(work))
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(command, words, work, folder)
    status, usage = _wait(pid, start + MAX_WAIT)
    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    said = (folder / "stderr").read_text(errors="replace")
    printed = (folder / "stdout").read_text(errors="replace")
    changed = sorted(set(before.items()) ^ set(dict(_snapshot(work)).items()))
    came_to, problem = _judge(case, status, said, printed)
    if time.monotonic() - start >= MAX_WAIT:
        problem = f"took more than {MAX_WAIT:.0f} s"
    elif seconds > MAX_SECONDS:
        problem = f"took {seconds:.0f} s"
    elif memory >= MAX_BYTES:
        problem = f"took {memory / 1e9:.1f} GB"
    elif changed or (work / CANARY).exists():
        problem = f"touched {changed[0][0] if changed else CANARY}"
    errors = [line for line in said.splitlines() if line.strip()]
    outcome = Outcome(case, came_to, problem, seconds, memory, errors[-1] if errors else "")
    if not problem:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _child(command: Callable[..., object], words: list[str], work: Path, folder: Path) -> None:
    """Run the command in this forked process, and end it."""
    code = 1
    try:
        os.setsid()
        os.chdir(work)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdin = open(os.devnull)  # noqa: SIM115
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115  # pytest's are others
        os.environ.update(HOME=str(work / "out"), TMPDIR=str(folder))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        command(words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, until: float) -> tuple[int, resource.struct_rusage]:
    """Wait for a process until then; end it where it takes longer, with those it has started."""
    ended = 0
    while not ended:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if not ended and time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            ended, status, usage = os.wait4(pid, 0)
        elif not ended:
            time.sleep(0.005)
    return status, usage


def _judge(case: Case, status: int, said: str, printed: str) -> tuple[str, str]:
    """Return what the command came to, and what is wrong with that."""
    if os.WIFSIGNALED(status):
        return "", f"ended by signal {os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status)
    if "Traceback" in said or "Traceback" in printed:
        return "", "ended with a traceback"
    if code not in (0, 2):
        return "", f"ended with exit code {code}"
    came_to = RESULT if code == 0 else SENTENCE
    if case.wanted not in (EITHER, came_to):
        return came_to, f"came to {came_to}"
    if code == 2 and "error: " not in said:
        return came_to, "ended without a sentence"
    if code == 2 and case.says not in said:
        return came_to, f"said nothing of {case.says!r}"
    return came_to, ""


def _snapshot(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file that is not to change, and what it holds."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] == "out" or "__pycache__" in name:
            continue
        if path.is_symlink() or path.is_dir() or not path.is_file():
            yield name, "no file"
        elif path.stat().st_size > 1e7:
            yield name, f"{path.stat().st_size} {path.stat().st_mtime_ns}"
        else:
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()
