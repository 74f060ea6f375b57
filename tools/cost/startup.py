"""How long train_net.py takes to start."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inspire_d2.errors import InputError

__all__ = ["first_iteration_seconds", "help_seconds"]

REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN_NET = (sys.executable, str(REPOSITORY / "train_net.py"))
POLL_SECONDS = 0.02


def help_seconds(repeats: int = 3, command: tuple[str, ...] = TRAIN_NET) -> float:
    """Return the median wall time of `train_net.py --help` in seconds.

    Raises:
        InputError: it printed no help, so that its time would be of something else.
    """
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - start)
        if run.returncode != 0 or "usage:" not in run.stdout:
            raise InputError(f"train_net.py --help ended with code {run.returncode} and no help.")
    return statistics.median(times)


def first_iteration_seconds(config_file: str, command: tuple[str, ...] = TRAIN_NET) -> float:
    """Train one iteration of a config; return the seconds from the command to its metrics.

    The run is stopped there, before it evaluates; its folder is temporary.

    Raises:
        InputError: the run ended without an iteration; it has said why on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "metrics.json"
        options = ("train.max_iter=1", "train.log_period=1", f"train.output_dir={folder}")
        start = time.perf_counter()
        run = subprocess.Popen(
            [*command, "--config-file", config_file, *options], stdout=subprocess.DEVNULL
        )
        try:
            while not (metrics.is_file() and metrics.stat().st_size):
                if run.poll() is not None:
                    raise InputError(
                        f"train_net.py with {config_file} ended with code {run.returncode} before "
                        "its first iteration."
                    )
                time.sleep(POLL_SECONDS)
            return time.perf_counter() - start
        finally:
            run.kill()
            run.wait()
