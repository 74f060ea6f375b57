"""Reading checkpoints of the pickle kind without running what they may contain."""

import collections
import pickle
from typing import IO, Any

import numpy as np

from ..errors import InputError

__all__ = ["load_arrays"]


def load_arrays(file: IO[bytes], name: str) -> Any:
    """Read a pickle of NumPy arrays, numbers and text in plain containers, and of nothing else.

    Strings of Python 2 are read as latin-1, as Detectron2's model zoo needs. ``name`` is what the
    file is called in errors.

    Raises:
        InputError: the file names any other class or function, which may be code that runs when it
            is read.
    """
    return _ArrayUnpickler(file, name).load()


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode, by which Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode(encoding)


def _allowed() -> dict[tuple[str, str], Any]:
    """Map (module, name) to what may be made of it; modules of NumPy 1 and 2, Python 2 and 3."""
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float32(0).__reduce__()[0]
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("_codecs", "encode"): _encode,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = reconstruct
        names[f"{core}.multiarray", "scalar"] = scalar
        names[f"{core}.numeric", "_frombuffer"] = np.empty(1).__reduce_ex__(5)[0]
    for builtins in ("builtins", "__builtin__"):
        for kind in (set, frozenset, bytes, bytearray, complex):
            names[builtins, kind.__name__] = kind
    return names


class _ArrayUnpickler(pickle.Unpickler):
    ALLOWED = _allowed()

    def __init__(self, file: IO[bytes], name: str) -> None:
        super().__init__(file, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise InputError(
                f"checkpoint {self._name} is refused: it names {module}.{name}, and a file of "
                "weights needs no code; take one from a source you trust, or save its arrays anew."
            ) from None
