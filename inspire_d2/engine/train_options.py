"""Checks of a run's options, made before anything is built."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError, warn
from .checkpointing import CheckpointHook

__all__ = ["check_arguments", "check_train_options"]

# Of each mapping, the keys that it needs, and those that it may have; None where a call tells.
_TRAIN_MAPPINGS = {
    "checkpointer": ((), None),
    "ddp": ((), None),
    "checkpoint": (("allow_partial",), ()),
    "amp": (("enabled",), ()),
    "lr_scaling": (("enabled", "batch_size"), ()),
    "dist": ((), ("port", "backend", "timeout_s")),
    "tta": (("enabled",), ("wrapper",)),
}
_TRAIN_KEYS = (
    *("output_dir", "init_checkpoint", "device", "seed", "max_iter", "log_period", "eval_period"),
    *("checkpointer", "checkpoint", "amp", "ddp"),
)
# Configs saved before they came lack the first; the last are default_setup's.
_OPTIONAL_TRAIN_KEYS = (
    *("lr_scaling", "channels_last", "dist", "tta"),
    *("cudnn_benchmark", "float32_precision"),
)
_PRECISIONS = ("highest", "high", "medium")
# What whole numbers must be at least
_WHOLE = {
    "train.max_iter": 1,
    "train.log_period": 1,
    "train.eval_period": 0,
    "train.checkpointer.period": 1,
    "dataloader.train.total_batch_size": 1,
}
_MAX_SEED = 4_000_000_000  # NumPy takes what is below 2**32, and each rank adds its number


def check_train_options(cfg: DictConfig) -> None:
    """Raise InputError where ``train`` has no folder, a wrong number or an unknown key.

    What training needs of ``dataloader`` is looked at, too.
    """
    for section, keys, model in (
        ("train", _TRAIN_KEYS, "configs/common/train.py"),
        ("dataloader", ("train", "test", "evaluator"), "one of configs/common/data"),
    ):
        node = cfg[section] if isinstance(cfg[section], DictConfig) else {}
        if lacking := [key for key in keys if key not in node]:
            raise InputError(
                f"{section} of the config lacks {', '.join(lacking)}: begin with {model}."
            )
    known = (*_TRAIN_KEYS, *_OPTIONAL_TRAIN_KEYS)
    # A config's own code may use keys of its own; only what is like another can be a mistake.
    for key in _unknown(cfg.train, known):
        if not _refers(cfg, key):
            told = f"train of the config has {key}, which nothing reads"
            if close := difflib.get_close_matches(key, known, n=1):
                raise InputError(f"{told}; did you mean {close[0]}?")
            warn(f"{told}, unless the config itself does")
    for key, (needed, optional) in _TRAIN_MAPPINGS.items():
        node = cfg.train.get(key)
        if not node and key not in _TRAIN_KEYS:
            continue
        if not isinstance(node, DictConfig) or not set(needed) <= set(node):
            raise InputError(
                f"train.{key}={node!r} must be a mapping of the keys that "
                "configs/common/train.py gives it."
            )
        if optional is not None:
            _check_known(f"train.{key}", node, (*needed, *optional))
    output_dir = cfg.train.output_dir
    if not output_dir or not isinstance(output_dir, str):
        raise InputError(f"train.output_dir={output_dir!r} names no folder.")
    if output_dir.startswith("~"):  # a shell leaves it as it is within a word
        raise InputError(f'train.output_dir={output_dir}: write "$HOME" for ~.')
    if output_dir.endswith((".txt", ".log")):  # Detectron2 would take it for the log's name
        raise InputError(f"train.output_dir={output_dir} is to be a folder: name it otherwise.")
    check_arguments("train.checkpointer", CheckpointHook, cfg.train.checkpointer, None)
    ddp = {key: value for key, value in cfg.train.ddp.items() if key != "fp16_compression"}
    check_arguments("train.ddp", DistributedDataParallel, ddp, None)
    for key, least in _WHOLE.items():
        _check_whole(cfg, key, least)
    _check_whole(cfg, "train.checkpointer.max_to_keep", 0, optional=True)
    if not (type(cfg.train.seed) is int and cfg.train.seed <= _MAX_SEED):
        raise InputError(
            f"train.seed={cfg.train.seed!r} must be a whole number of at most {_MAX_SEED}."
        )
    precision = cfg.train.get("float32_precision")
    if precision and precision not in _PRECISIONS:
        raise InputError(
            f"train.float32_precision={precision!r}: take one of {', '.join(_PRECISIONS)}."
        )
    tta = cfg.train.get("tta")
    if tta and tta.enabled and not isinstance(tta.get("wrapper"), DictConfig):
        raise InputError(
            "train.tta.enabled=True needs train.tta.wrapper: see configs/common/tta.py."
        )
    if cfg.train.get("lr_scaling"):
        _check_whole(cfg, "train.lr_scaling.batch_size", 1, optional=True)


def check_arguments(
    what: str, target: Callable[..., Any], options: Mapping[str, Any], *given: Any
) -> None:
    """Raise InputError where a callable does not take some arguments, or needs others."""
    try:
        inspect.signature(target).bind(*given, **options)
    except TypeError as error:
        raise InputError(f"{what}: {error}.") from error


def _refers(cfg: DictConfig, key: str) -> bool:
    """Whether a config refers to a key of its ``train``."""
    texts = [str(OmegaConf.to_container(node, resolve=False)) for node in (cfg, cfg.train)]
    ways = (r"\$\{\.*train(?:\.|\[)", r"\$\{\.+")
    return any(
        re.search(rf"{way}{re.escape(key)}\b", text) for way, text in zip(ways, texts, strict=True)
    )


def _unknown(node: DictConfig, known: Sequence[str]) -> list[str]:
    return [key for key in map(str, node) if key not in known]


def _check_known(what: str, node: DictConfig, known: Sequence[str]) -> None:
    """Raise InputError where a mapping has a key that nothing reads, such as a mistyped one."""
    for key in _unknown(node, known):
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"take from {', '.join(known)}."
        raise InputError(f"{what} has {key}, which nothing reads; {hint}")


def _check_whole(cfg: DictConfig, key: str, least: int, *, optional: bool = False) -> None:
    """Raise InputError unless a value is a whole number, ``least`` or more, or left out."""
    value = OmegaConf.select(cfg, key)
    if not (type(value) is int and value >= least) and not (optional and value is None):
        raise InputError(f"{key}={value!r} must be a whole number from {least} up.")
