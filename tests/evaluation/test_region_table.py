"""predictions.csv, which several processes may write at once."""

import csv
import fcntl
import os
import threading
from pathlib import Path

import numpy as np

from inspire_d2.evaluation.region_table import RegionTable, measure


def rows_of(voxels: int) -> list[dict]:
    return [{"region": "lesion", "voxels": voxels, "ml": "0.10", "parts": 1, "seconds": "1.0"}]


def read(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        return {row["case"]: row["voxels"] for row in csv.DictReader(file)}


def test_millilitres_only_where_the_spacing_is_known() -> None:
    label_map = np.zeros((3, 4, 5), np.uint8)
    label_map[0, :2, :5] = label_map[2, 3, 4] = 1
    (row,) = measure(label_map, {"lesion": [1]}, (10.0, 20.0, 0.5))
    assert row == {"region": "lesion", "voxels": 11, "ml": "1.10", "parts": 2}
    assert measure(label_map, {"lesion": [1]}, None)[0] == row | {"ml": ""}


def test_two_tables_of_one_file_keep_each_others_rows(tmp_path: Path) -> None:
    path = tmp_path / "found" / "predictions.csv"
    one, other = (RegionTable(path, replace_others=False) for _ in range(2))
    one.put("a", rows_of(1))
    other.put("b", rows_of(2))
    one.put("c", rows_of(3))
    other.put("a", rows_of(4))
    assert read(path) == {"a": "4", "b": "2", "c": "3"}
    assert [file.name for file in path.parent.iterdir()] == ["predictions.csv"]


def test_a_table_is_not_read_while_another_is_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    table = RegionTable(path, replace_others=False)
    writing = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(writing, fcntl.LOCK_EX)
    waiting = threading.Thread(target=table.put, args=("a", rows_of(1)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive() and read(path) == {}
    os.close(writing)  # as where a process is killed
    waiting.join(10)
    assert read(path) == {"a": "1"}
