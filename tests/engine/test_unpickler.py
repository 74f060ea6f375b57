"""Pickles of arrays are read; pickles that would run code are refused, and do not run."""

import collections
import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspire_d2.engine.unpickler import load_arrays
from inspire_d2.errors import InputError

CONTENT = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.ones((2, 2), dtype=np.float16),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "empty": np.zeros((0, 3)),
    "number": np.float64(2.5),
    "nested": collections.OrderedDict(a=[1, (2.5, None, True)], b={"c": {3}, "d": b"\xff\x00"}),
    "text": "naïve",
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back(protocol: int) -> None:
    loaded = load_arrays(io.BytesIO(pickle.dumps(CONTENT, protocol)), "a.pkl")
    assert loaded.keys() == CONTENT.keys()
    assert all(same(loaded[key], value) for key, value in CONTENT.items())


def test_modules_of_both_numpys() -> None:
    data = pickle.dumps({"a": np.arange(3)}, 2)
    names = [b"numpy.core.multiarray", b"numpy._core.multiarray"]
    present = next(name for name in names if name in data)
    for name in names:
        loaded = load_arrays(io.BytesIO(data.replace(present + b"\n", name + b"\n")), "a.pkl")
        assert np.array_equal(loaded["a"], np.arange(3))


def test_strings_of_python_2() -> None:
    """As protocol 2 of Python 2 writes {'conv1_w': '\\xe9'}, a dict with short byte strings."""
    data = b"\x80\x02}U\x07conv1_wU\x01\xe9s."
    assert [op.name for op, *_ in pickletools.genops(data)].count("SHORT_BINSTRING") == 2
    assert load_arrays(io.BytesIO(data), "a.pkl") == {"conv1_w": "é"}


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return (open, (self.path, "w"))


class Shell:
    def __reduce__(self) -> tuple:
        return (os.system, ("true",))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_refused_by_name(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for content in (Touch(mark), {"model": {"a": np.ones(2), "b": Touch(mark)}}):
        with pytest.raises(InputError, match=r"bad.pkl is refused: it names \S*io.open"):
            load_arrays(io.BytesIO(pickle.dumps(content, protocol)), "bad.pkl")
    assert not mark.exists()
    with pytest.raises(InputError, match=r"it names (posix|nt).system"):
        load_arrays(io.BytesIO(pickle.dumps(Shell(), protocol)), "bad.pkl")


def test_nothing_is_reached_through_what_is_allowed() -> None:
    """Dotted names, which pickle resolves attribute by attribute, and codecs that decompress."""
    for module, name in (("numpy", "dtype.__class__"), ("builtins", "getattr"), ("os", "system")):
        data = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode()
        data += b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
        with pytest.raises(InputError, match="is refused"):
            load_arrays(io.BytesIO(data), "bad.pkl")
    with pytest.raises(pickle.UnpicklingError, match="zlib"):
        load_arrays(io.BytesIO(b"c_codecs\nencode\n(Va\nVzlib\ntR."), "bad.pkl")
