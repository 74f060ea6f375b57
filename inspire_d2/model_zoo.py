"""The configs that come with inspire_d2, by name.

    from inspire_d2 import model_zoo

    cfg = model_zoo.get_config("polyp/mask_rcnn_r18_inspire")

They are the files of configs/; one installed from a wheel has them beside this module.
"""

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["closest_config", "find_config", "get_config", "list_configs"]

_INSTALLED = Path(__file__).with_name("configs")
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1] / "configs"


def list_configs() -> list[str]:
    """Return the names of all configs, sorted, such as "polyp/mask_rcnn_r18_inspire"."""
    names = (path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.py"))
    # What lies under common/ are parts of configs.
    return sorted(name for name in names if not name.startswith("common/"))


def get_config(name: str) -> "DictConfig":
    """Load a config by its name, with or without ``.py``.

    Raises:
        InputError: there is no config of that name; the message has the closest.
    """
    from .engine.config import load_config  # takes seconds, and asks this module for files

    path = _file_of(name)
    if path is None:
        hint = closest_config(name, cutoff=0)
        raise InputError(f"inspire_d2 has no config {name}; the closest is {hint}.")
    return load_config(str(path))


def find_config(path: str) -> str:
    """Return the path of a config file that is named from anywhere.

    A file that exists comes first; else ``polyp/NAME``, with or without ``configs/`` before and
    ``.py`` behind it, is the one that comes with inspire_d2. What is neither is returned as it is.
    """
    return path if os.path.isfile(path) else str(_file_of(path) or path)


def closest_config(name: str, cutoff: float = 0.8) -> str | None:
    """Return the name of the config that is most like this one, if one is like it enough."""
    names = difflib.get_close_matches(_name_of(name), list_configs(), n=1, cutoff=cutoff)
    return names[0] if names else None


def _file_of(name: str) -> Path | None:
    """Return the file of a config that comes with inspire_d2; names lead nowhere else."""
    name = _name_of(name)
    return CONFIGS / f"{name}.py" if name in list_configs() else None


def _name_of(path: str) -> str:
    return path.removeprefix("./").removeprefix("configs/").removesuffix(".py")
