"""What a measurement was taken on."""

import contextlib
import datetime
import logging
import platform
import subprocess
import warnings
from pathlib import Path

import torch
import torchvision

from inspire_d2.engine.precision import has_fast_bfloat16

__all__ = ["describe_environment", "hush"]

REPOSITORY = Path(__file__).resolve().parents[2]


def hush() -> None:
    """Silence what Detectron2 makes torch say of itself, of no use to who reads a benchmark."""
    warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)


def describe_environment() -> dict[str, str | int]:
    """Name the machine, the libraries, the commit and the date."""
    described: dict[str, str | int] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "system": platform.platform(),
        "cpu": f"{_cpu_model()}, {torch.backends.cpu.get_cpu_capability()}",
        "bfloat16 on the cpu": "computed" if has_fast_bfloat16() else "imitated",
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str:
    """Return the commit, with "-dirty" where files differ from it; "unknown" without git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
