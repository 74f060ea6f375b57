"""Config files in yaml, read without running what they may name.

A run's config.yaml comes along with its checkpoint, perhaps from elsewhere. Yaml's tags for Python
objects and targets that load or execute something else are refused. This is no sandbox: a config
names classes and functions to call, and is to be trusted as far as code is.
"""

import sys
from collections.abc import Iterator
from typing import Any

import yaml
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import _convert_target_to_string, locate
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode

from ..errors import InputError

__all__ = ["check_saveable", "read_yaml"]

MAX_NODES = 1_000_000  # of a file in which some stand for others many times
# Where callables live that execute or load what they are given
_EXECUTING = (
    *("cloudpickle", "dill", "iopath", "joblib", "pip", "setuptools", "submitit", "pytest"),
    *("detectron2.config", "detectron2.engine", "detectron2.utils", "fvcore.common.file_io"),
    *("inspire_d2.cli", "inspire_d2.engine", "numpy.lib", "pandas.io", "torch.distributed"),
    *("numpy.ctypeslib", "numpy.f2py", "numpy.load", "yaml", "torch.classes", "torch.ops"),
    *("torch.hub", "torch.jit", "torch.multiprocessing", "torch.serialization"),
    *("torch.utils.cpp_extension", "torch.utils.model_zoo"),
)
_ALLOWED = (
    *("collections.OrderedDict", "functools.partial", "pathlib.Path"),
    "inspire_d2.engine.optim",
)


class _Loader(yaml.SafeLoader):
    """yaml's safe loader, and what configs of Detectron2 hold: tuples, ShapeSpecs, classes."""

    def construct_name(self, name: str, node: yaml.Node) -> Any:
        """Return the class or function of a name that may stand in a config as a target does."""
        if _executes(name):
            raise yaml.constructor.ConstructorError(None, None, f"it names {name}", node.start_mark)
        return locate(name)


_PYTHON = "tag:yaml.org,2002:python"
_Loader.add_constructor(f"{_PYTHON}/tuple", lambda self, node: self.construct_sequence(node, True))
_Loader.add_multi_constructor(f"{_PYTHON}/name:", _Loader.construct_name)
_Loader.add_constructor(
    f"{_PYTHON}/object:detectron2.layers.shape_spec.ShapeSpec",
    lambda self, node: ShapeSpec(**self.construct_mapping(node)),
)


def read_yaml(path: str) -> DictConfig | ListConfig | Any:
    """Read a config.

    Raises:
        InputError: it is no yaml, has tags for Python objects, or names a target that executes or
            loads something.
    """
    try:
        with open(path, encoding="utf-8") as file:
            node = yaml.compose(file, _Loader)
        if node is None:
            return None
        _count(node, {}, set())
        loader = _Loader("")
        content = loader.construct_document(node)
    except yaml.constructor.ConstructorError as error:
        raise InputError(
            f"config file {path} is refused: {error.problem} (line "
            f"{error.problem_mark.line + 1}), which may be code."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"config file {path} is not valid yaml: {reason}") from error
    if not isinstance(content, dict):
        return content
    _check_targets(content, path)
    return OmegaConf.create(content, flags={"allow_objects": True})


def check_saveable(cfg: DictConfig) -> None:
    """Raise InputError where a config holds what the yaml it is saved as would not give back."""
    content = OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE)
    for key, value in _leaves(content, ""):
        if not _comes_back(value, as_target=key.endswith("_target_")):
            shown = " ".join(repr(value).split())[:100]
            raise InputError(
                f"{key} of the config, {shown}, cannot be saved in config.yaml, which resuming, "
                "scoring and predicting need: write plain values, and functions or classes that "
                "can be imported, with arguments as L(function)(...)."
            )


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Walk a container: the dotted key and value of each entry that is neither text nor number."""
    if isinstance(node, dict | list | tuple):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif type(node) not in (str, int, float, bool, type(None)):
        yield path, node


def _comes_back(value: Any, *, as_target: bool) -> bool:
    try:
        if as_target:
            return bool(locate(_convert_target_to_string(value)) == value)
        return bool(_Loader(yaml.dump(value)).get_single_data() == value)
    except Exception:  # what cannot be written, or is not read, fails in many ways
        return False


def _count(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """Count the nodes that a file stands for; raise ValueError where it is without end."""
    if id(node) in above:
        raise ValueError("it contains itself")
    if id(node) not in known:
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inside = node.value
        elif isinstance(node, yaml.MappingNode):
            inside = [one for pair in node.value for one in pair]
        known[id(node)] = 1 + sum(_count(one, known, above | {id(node)}) for one in inside)
    if known[id(node)] > MAX_NODES:
        raise ValueError(f"it stands for more than {MAX_NODES} values")
    return known[id(node)]


def _check_targets(content: Any, path: str) -> None:
    if isinstance(content, list):
        for one in content:
            _check_targets(one, path)
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if key == "_target_" and isinstance(value, str) and _executes(value):
            raise InputError(
                f"config file {path} is refused: its _target_ {value} may run anything; a .py "
                "config of your own may name it."
            )
        _check_targets(value, path)


def _executes(target: str) -> bool:
    """Whether a target, under its own name or the one that it is known by, is not to be called."""
    if _refused(target):
        return True
    try:
        found = locate(target)
    except Exception:  # instantiate will say what is wrong with it
        return False
    # torch.os.system is posix.system.
    name = f"{getattr(found, '__module__', None) or ''}.{getattr(found, '__qualname__', '')}"
    return _refused(name)


def _refused(name: str) -> bool:
    if any(name == one or name.startswith(f"{one}.") for one in _ALLOWED):
        return False
    return name.partition(".")[0] in sys.stdlib_module_names or any(
        name == one or name.startswith(f"{one}.") for one in _EXECUTING
    )
