"""INSPIRE on Detectron2: a feature pyramid that enriches, aligns and feeds back its scales.

The import checks that Detectron2 is there, without importing it, so that what is missing is said
in one sentence rather than by a traceback from some module further down.
"""

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspire_d2.predictor import Predictor, load

__all__ = ["Predictor", "__version__", "load"]

__version__ = "0.1.0"

# What takes seconds to import waits until it is asked for.
_LATER = {"Predictor": "inspire_d2.predictor", "load": "inspire_d2.predictor"}


def __getattr__(name: str) -> Any:
    """Import what is exported from further down when it is first used."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def _require_detectron2() -> None:
    """Raise ImportError unless the ``detectron2`` package, not just a folder, can be imported."""
    try:
        spec = importlib.util.find_spec("detectron2")
    except ValueError:  # a module put in sys.modules by hand, without a spec
        return
    # A folder of that name without an __init__.py on the path is a namespace package, origin None.
    if spec is None or spec.origin is None:
        raise ImportError(
            "inspire_d2 needs Detectron2, which PyPI does not carry under its own name: run "
            "`make setup` in a checkout of inspire_d2, or install Detectron2 as described at "
            "https://detectron2.readthedocs.io/en/latest/tutorials/install.html",
            name="detectron2",
        )


def _let_waiting_threads_sleep() -> None:
    """Have PyTorch's CPU threads wait actively for 10,000 turns, not 300,000, before they sleep.

    A thread that waits actively keeps a core from the thread it waits for as soon as another
    program, or another training, needs one, too (figures: docs/findings.md). libgomp, which has
    PyTorch's threads on Linux, reads this when torch is imported; what a user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


_require_detectron2()
_let_waiting_threads_sleep()
