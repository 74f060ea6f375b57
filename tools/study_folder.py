"""A study's folder holds runs of one study: those of another are refused, not compared."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError

__all__ = ["refuse_another_root", "refuse_another_run"]

# What makes a training; the rest says where it lies and how many processes load its data.
COMPARED = (
    "model", "optimizer", "lr_multiplier", "dataloader.train.mapper",
    "dataloader.train.total_batch_size", "dataloader.test.mapper", "train.max_iter",
    "train.init_checkpoint",
)  # fmt: skip
# What train_net.py records as it was used, off where it was asked for (engine/precision.py)
SET_ASIDE = ("train.amp", "train.channels_last")


def refuse_another_run(folder: Path, config: Path, overrides: Sequence[str]) -> None:
    """Raise InputError where a folder holds a run other than of a config with overrides."""
    if not (folder / "config.yaml").exists():
        return
    found = _flat(load_config(str(folder / "config.yaml")))
    with tempfile.TemporaryDirectory() as temporary:  # so that both are as yaml gives them back
        save_config(load_config(str(config), overrides), f"{temporary}/config.yaml")
        wanted = _flat(load_config(f"{temporary}/config.yaml"))
    compared = (*COMPARED, *(override.partition("=")[0] for override in overrides))
    for key in wanted | found:
        is_compared = any(key == start or key.startswith(f"{start}.") for start in compared)
        set_aside = key.startswith(SET_ASIDE) and wanted.get(key) and not found.get(key)
        if not is_compared or set_aside or found.get(key) == wanted.get(key):
            continue
        raise InputError(
            f"{folder} holds a run of {key}={found.get(key)}, not {wanted.get(key)}: name another "
            "--output."
        )


def refuse_another_root(folder: Path, root: Path) -> None:
    """Raise InputError where a folder's split was made from images other than ``root``'s."""
    made_from = json.loads((folder / "val.json").read_text())["info"]["image_root"]
    if Path(made_from).resolve() != root.resolve():
        raise InputError(
            f"{folder} was made from {made_from}, not {root.resolve()}: give that --root, or "
            "another --output."
        )


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Return each value, or list of plain values, by its dotted key."""
    flat: dict[str, Any] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            for name, item in value.items():
                add(f"{key}.{name}" if key else str(name), item)
        else:
            flat[key] = value

    add("", OmegaConf.to_container(cfg))  # an interpolation as it stands: its source tells
    return flat
