"""Loading a LazyConfig and its overrides, with every mistake told before anything is built."""

import difflib
import hashlib
import inspect
import os
from collections.abc import Sequence
from typing import Any

import yaml
from detectron2.config import LazyConfig
from detectron2.utils.registry import _convert_target_to_string, locate
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode, open_dict
from omegaconf.errors import OmegaConfBaseException

from ..errors import InputError, warn
from ..model_zoo import closest_config, find_config
from .config_yaml import read_yaml
from .signals import stop_signals

__all__ = ["SECTIONS", "config_digest", "is_overridden", "load_config", "save_config"]

# The names that every config defines; train_net.py needs all of them.
SECTIONS = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Load a config file (.py, or a run's config.yaml) and apply ``key=value`` overrides.

    Where there is no such file, it may be one that comes with inspire_d2: see :func:`find_config`.

    Raises:
        InputError: the file is missing or does not load; a section is missing; an override is
            malformed, names a key that does not exist, or has another type than the key's value.
    """
    for override in overrides:
        _check_no_flag(override)
    if not path:
        raise InputError("--config-file is missing: name a config, such as one under configs/.")
    path = find_config(path)
    if not os.path.isfile(path):
        close = closest_config(path)
        hint = f"; did you mean {close}?" if close else "."
        raise InputError(f"config file {path} does not exist{hint}")
    if os.path.splitext(path)[1] not in (".py", ".yaml", ".yml"):
        raise InputError(f"config file {path} is neither a .py nor a .yaml file.")
    try:
        cfg = LazyConfig.load(path) if path.endswith(".py") else read_yaml(path)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if stop_signals.requested:
            raise
        # A config is a program: anything can go wrong in it.
        raise InputError(
            f"config file {path} does not load: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(cfg, DictConfig):
        raise InputError(f"config file {path} does not hold a mapping of {', '.join(SECTIONS)}.")
    missing = [name for name in SECTIONS if name not in cfg]
    if missing:
        raise InputError(f"config file {path} does not define {', '.join(missing)}.")
    for override in overrides:
        _apply_override(cfg, override)
    for name in SECTIONS:
        if not isinstance(cfg[name], DictConfig):
            raise InputError(f"{name}={cfg[name]!r} of the config file {path} must be a mapping.")
    try:
        OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        reason = " ".join(str(error).split())
        raise InputError(f"config file {path} does not resolve: {reason}") from error
    return cfg


def save_config(cfg: DictConfig, path: str) -> None:
    """Write a config as yaml that :func:`load_config` reads back to the same training.

    Keys keep their order, other than in Detectron2's LazyConfig.save: it is the order in which
    modules are built, and so the order in which they draw their random weights.
    """
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(_to_yaml(cfg))
    os.replace(path + ".tmp", path)


def config_digest(cfg: DictConfig) -> str:
    """Return twelve characters that differ where two configs do."""
    return hashlib.sha256(_to_yaml(cfg).encode()).hexdigest()[:12]


def _to_yaml(cfg: DictConfig) -> str:
    content = OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE)
    return yaml.dump(
        _with_named_targets(content),
        default_flow_style=None,
        allow_unicode=True,
        width=9999,
        sort_keys=False,
    )


def _with_named_targets(value: Any) -> Any:
    """Replace the callables to be instantiated by their dotted names."""
    if isinstance(value, dict):
        return {
            key: _convert_target_to_string(item)
            if key == "_target_" and callable(item)
            else _with_named_targets(item)
            for key, item in value.items()
        }
    return [_with_named_targets(item) for item in value] if isinstance(value, list) else value


def is_overridden(key: str, overrides: Sequence[str]) -> bool:
    """Return whether overrides give ``section.name`` a value, by that key or in a mapping."""
    section, _, name = key.partition(".")
    for override in overrides:
        ours, _, text = override.partition("=")
        if ours == key:
            return True
        if ours == section:
            value = _parse(override, text)
            if isinstance(value, dict) and name in value:
                return True
    return False


def _check_no_flag(override: str) -> None:
    if override.startswith("-"):
        raise InputError(
            f"{override} stands among the overrides: put flags before the first key=value."
        )


def _apply_override(cfg: DictConfig, override: str) -> None:
    """Check one ``key=value`` against the config, then set it."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"override {override!r} is not of the form key=value.")
    parent, name = _find(cfg, key)
    value = _parse(override, text)
    with open_dict(cfg):
        _assign(parent, name, value, key, text)


def _assign(parent: DictConfig | ListConfig, name: Any, value: Any, key: str, text: str) -> None:
    """Check a value against the one at ``key``, parent[name], then set it.

    A mapping is merged into the one that is there, and so checked entry by entry; of arguments,
    such as a loss's regions, null takes an entry out.
    """
    there = name in parent if isinstance(parent, DictConfig) else True
    present = parent[name] if there else None
    if there:
        value = _match_type(key, value, text, present)
    refers = OmegaConf.is_interpolation(parent, name)  # what it refers to is not to be changed
    if not isinstance(value, dict) or not isinstance(present, DictConfig) or refers:
        parent[name] = value
        return
    if "_target_" in value:  # first: it says which other keys there may be
        value = {"_target_": value["_target_"], **value}
    # New keys are for arguments, not for calls and sections.
    fixed = "_target_" in present or key.split(".")[0] == "train" or key == "dataloader"
    for entry, part in value.items():
        if fixed:
            _check_key(present, str(entry), f"{key}.{entry}", key)
        elif part is None:
            if entry in present:
                del present[entry]
            else:  # as in a run that was begun with the same override, or mistyped
                warn(f"override {key}: there is no {entry} to leave out of {', '.join(present)}")
            continue
        _assign(present, entry, part, f"{key}.{entry}", str(part))


def _find(cfg: DictConfig, key: str) -> tuple[DictConfig | ListConfig, Any]:
    """Look a dotted key up: the node that holds it, and its name or number in there.

    Raises:
        InputError: the config has no such key, nor does the callable there take it.
    """
    node: Any = cfg
    parts = key.split(".")
    last = len(parts) - 1
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth]) or "the config"
        if isinstance(node, ListConfig):
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(
                    f"override {key}: {where} is a list of {len(node)}, without an item {part}."
                )
            name = int(part)
        elif isinstance(node, DictConfig):
            _check_key(node, part, key, where, argument=depth == last)
            name = part
        else:
            raise InputError(f"override {key}: {where} is {node!r}, which has no keys.")
        parent, node = node, None if depth == last else node[name]
    return parent, name


def _check_key(node: DictConfig, part: str, key: str, where: str, *, argument: bool = True) -> None:
    """Raise InputError unless a node has a key, or, as its ``argument``, could be given it."""
    if part in node:
        return
    arguments = _arguments_of(node)
    if argument and part in arguments:
        return
    names = sorted({*map(str, node), *arguments} - {"_target_", "kwargs"})
    close = difflib.get_close_matches(part, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names)}."
    raise InputError(f"override {key}: {where} has no key {part}; {hint}")


def _arguments_of(node: DictConfig) -> list[str]:
    """Name the arguments of the callable that a node would be instantiated with."""
    target = node.get("_target_")
    target = locate(target) if isinstance(target, str) else target
    if target is None:
        return []
    # Detectron2's `configurable` hides a constructor's signature behind the wrapped one.
    target = inspect.unwrap(target.__init__) if inspect.isclass(target) else inspect.unwrap(target)
    return [name for name in inspect.signature(target).parameters if name not in ("self", "args")]


def _parse(override: str, text: str) -> Any:
    """Read a value in Hydra's grammar; what it does not cover is the text itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return text
    return text if parsed.is_sweep_override() else parsed.value()


def _match_type(key: str, value: Any, text: str, present: Any) -> Any:
    """Return the value in the type of the one it replaces, or refuse it."""
    if present is None or callable(present):
        return value
    if value is None and not isinstance(present, int | float):
        return value
    if isinstance(present, str):
        return value if isinstance(value, str) else text
    wanted: dict[type, tuple[type, ...]] = {
        bool: (bool,),
        int: (int,),
        float: (float, int),
        ListConfig: (list,),
        tuple: (list,),
        DictConfig: (dict,),
    }
    allowed = wanted.get(type(present))
    if allowed is None:
        return value
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = {ListConfig: "list", tuple: "list", DictConfig: "mapping"}
        name = names.get(type(present), type(present).__name__)
        hint = " (within the braces, put paths in quotes)" if text.startswith("{") else ""
        raise InputError(f"override {key}={text}: expected a value of type {name}{hint}.")
    return value
