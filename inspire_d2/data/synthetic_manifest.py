"""What a synthetic set's folder says of itself: how it was made, and whether it is complete."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inspire_d2.errors import InputError

__all__ = ["MANIFEST", "being_written", "check_complete", "read_manifest"]

MANIFEST = "synthetic.json"


def read_manifest(root: Path) -> dict[str, Any] | None:
    """Return what the folder says; None where it says nothing that can be read."""
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


@contextmanager
def being_written(root: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Let the folder say that it is incomplete until this ends without an error."""
    _write(root, {**settings, "complete": False})
    yield
    _write(root, {**settings, "complete": True})


def check_complete(root: Path) -> None:
    """Raise InputError for a synthetic set that was not written to its end."""
    manifest = read_manifest(root)
    if manifest is not None and manifest.get("complete") is False:
        raise InputError(
            f"the synthetic set {root} was not written to its end: make it again, by the same"
            " command as before"
        )


def _write(root: Path, manifest: dict[str, Any]) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{root} cannot be written: {error.strerror or error}") from error
