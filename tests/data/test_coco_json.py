"""Several jsons are written all or none, whatever goes wrong."""

import os
from pathlib import Path

import pytest

from inspire_d2.data import coco_json
from inspire_d2.data.coco_json import check_writable, write_jsons
from inspire_d2.errors import InputError


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_writes_all(tmp_path: Path) -> None:
    write_jsons(tmp_path / "new" / "folder", {"train.json": {"é": 1}, "val.json": []})
    assert contents(tmp_path / "new" / "folder") == {"train.json": '{"é":1}', "val.json": "[]"}


def test_a_failed_move_takes_the_first_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.json").write_text("old")
    replace = os.replace

    def fail_for_val(source: Path, target: Path) -> None:
        if target.name == "val.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(coco_json.os, "replace", fail_for_val)
    with pytest.raises(InputError, match="No space left"):
        write_jsons(tmp_path, {"new.json": 1, "train.json": 2, "val.json": 3})
    assert contents(tmp_path) == {"train.json": "old"}


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "val.json").mkdir()
    (tmp_path / "train.json").write_text("old")
    with pytest.raises(InputError, match="cannot be written"):
        write_jsons(tmp_path, {"train.json": 1, "val.json": 2})
    assert contents(tmp_path) == {"train.json": "old"}


def test_what_cannot_be_turned_into_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_jsons(tmp_path, {"train.json": 1, "val.json": object()})
    assert contents(tmp_path) == {}


def test_check_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(InputError, match="cannot be written.*give --output"):
            check_writable(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_writable(tmp_path)
