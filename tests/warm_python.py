"""Scripts run as commands, in processes forked from one that has imported what they import.

Each is spared seconds of imports; what it does is what it does in a process of its own.
"""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["WarmPython"]

ROOT = Path(__file__).resolve().parents[1]


class WarmPython:
    """Runs scripts, one after the other; ends its process when it is left."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm_python"],
            cwd=ROOT,
            # A forked process has no other threads.
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "WarmPython":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(self, words: Sequence[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Run a script with its arguments in a folder, as ``python WORDS`` does there."""
        outputs = [cwd / f".warm_python.{name}" for name in ("stdout", "stderr")]
        request = {"words": [*words], "cwd": str(cwd), "outputs": [str(path) for path in outputs]}
        print(json.dumps(request), file=self._server.stdin, flush=True)
        code = int(self._server.stdout.readline())
        said = [path.read_text(errors="replace") for path in outputs]
        for path in outputs:
            path.unlink()
        return subprocess.CompletedProcess([*words], code, *said)


def serve() -> None:
    """Fork a process for each request on stdin; answer with its exit code."""
    from .robustness.runner import preload

    preload()
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            return _run(**json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(words: list[str], cwd: str, outputs: list[str]) -> None:
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).resolve().parent)
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    serve()
