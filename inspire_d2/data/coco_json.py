"""Writing COCO jsons: several files at once, all of them or none."""

import contextlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inspire_d2.errors import InputError

__all__ = ["check_writable", "write_jsons"]


def check_writable(folder: Path) -> None:
    """Raise InputError when ``folder`` cannot be made or written to; leave nothing behind."""
    nearest = folder
    try:
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(_cannot_write(folder, error)) from error


def write_jsons(folder: Path, contents: Mapping[str, Any]) -> None:
    """Write each value of ``contents`` as ``folder``/key, all or none of them.

    Everything is written beside its place first, then moved there while Ctrl-C is ignored; when a
    move fails, the earlier ones are taken back. Raises InputError when it cannot write there.
    """
    staged: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            part = folder / f".{name}.{os.getpid()}.part"
            staged[folder / name] = part
            with open(part, "w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False, separators=(",", ":"))
                file.flush()
                os.fsync(file.fileno())
        with _interrupts_ignored():
            _move_all(staged)
    except OSError as error:
        raise InputError(_cannot_write(folder, error)) from error
    finally:
        for part in staged.values():
            part.unlink(missing_ok=True)


def _move_all(staged: Mapping[Path, Path]) -> None:
    before: dict[Path, bytes | None] = {}
    try:
        for final, part in staged.items():
            old = final.read_bytes() if final.exists() else None
            os.replace(part, final)
            before[final] = old
    except OSError:
        for final, old in before.items():
            final.unlink() if old is None else final.write_bytes(old)
        raise


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM for a moment (only the main thread can, elsewhere: nothing)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _cannot_write(folder: Path, error: OSError) -> str:
    return f"the output folder {folder} cannot be written: {error.strerror or error}; give --output"
