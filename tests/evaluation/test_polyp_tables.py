"""Polyp metrics by centre, and the files they are written to."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inspire_d2.data import polyp_dataset
from inspire_d2.evaluation.polyp import PolypEvaluator
from inspire_d2.evaluation.polyp_tables import image_centres, markdown, tabulate

from .polyp_helpers import LEFT, RIGHT, TALL, H, W, dicts_of, instances, registering

COLUMNS = [
    *("centre", "images", "positives", "negatives"),
    *("Dice", "IoU", "recall", "fp_per_image", "specificity"),
    *("mDice", "maxDice", "mIoU", "maxIoU", "wFm", "Sm", "mEm", "maxEm", "MAE"),
]
IMAGES = {1: [LEFT], 2: [LEFT, RIGHT], 3: [], 4: [RIGHT], 5: []}
CENTRES = {1: "C2", 2: "C2", 3: "C2", 4: "C1", 5: "C3"}
PREDICTIONS = {
    1: [(0.9, TALL)],  # Dice 8/12, IoU 4/8, found
    2: [(0.9, LEFT)],  # Dice 8/12, IoU 4/8, one of two found
    3: [(0.8, LEFT)],  # a false positive
    4: [(0.7, RIGHT)],  # perfect
    5: [],
}


@pytest.fixture
def register():
    with registering() as add:
        yield add


def evaluate(name: str, folder: Path, **options) -> dict[str, dict[str, float]]:
    evaluator = PolypEvaluator(name, output_dir=str(folder), distributed=False, **options)
    for image_id, scored in PREDICTIONS.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances(*scored)}])
    return evaluator.evaluate()


def test_rows_of_centres_and_of_all(register, tmp_path):
    results = evaluate(register(IMAGES, CENTRES), tmp_path)
    table = json.loads((tmp_path / "polyp_table.json").read_text())
    rows = {row["centre"]: row for row in table["rows"]}
    assert list(rows) == ["C1", "C2", "C3", "all"]
    assert all(list(row) == COLUMNS for row in rows.values())
    counts = {c: [r["images"], r["positives"], r["negatives"]] for c, r in rows.items()}
    assert counts == {"C1": [1, 1, 0], "C2": [3, 2, 1], "C3": [1, 0, 1], "all": [5, 3, 2]}

    figures = {c: [r[name] for name in COLUMNS[4:9]] for c, r in rows.items()}
    assert figures["C1"] == [1, 1, 1, 0, None]
    assert figures["C2"] == pytest.approx([2 / 3, 1 / 2, 2 / 3, 1 / 3, 0])
    assert figures["C3"] == [None, None, None, 0, 1]
    # Of all images together, not the mean of the centres.
    assert figures["all"] == pytest.approx([7 / 9, 2 / 3, 3 / 4, 1 / 5, 1 / 2])

    assert [rows["C3"][name] for name in COLUMNS[9:]] == [None] * 9
    assert rows["C1"]["wFm"] == pytest.approx(1) and rows["C1"]["MAE"] == 0
    for name in ("mDice", "mIoU", "wFm", "Sm", "mEm", "MAE"):
        pooled = (rows["C1"][name] + 2 * rows["C2"][name]) / 3
        assert rows["all"][name] == pytest.approx(pooled, abs=1e-6), name
    # Both are of the same figures.
    for name, value in (results["polyp"] | results["polyp_protocol"]).items():
        assert name == "Dice_all" or rows["all"][name] == value


def test_files_say_what_they_are_of(register, tmp_path):
    name = register(IMAGES, CENTRES)
    evaluate(name, tmp_path, score_threshold=0.6)
    table = json.loads((tmp_path / "polyp_table.json").read_text())
    assert table["dataset"] == name
    assert table["protocol"] == "PraNet" and table["score_threshold"] == 0.6

    with open(tmp_path / "polyp_table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["dataset", "protocol", "score_threshold", *COLUMNS]
    for row, expected in zip(rows, table["rows"], strict=True):
        assert row["dataset"] == name and row["protocol"] == "PraNet"
        assert row["score_threshold"] == "0.6"
        for column in COLUMNS:
            value = expected[column]
            assert row[column] == ("" if value is None else str(value))

    lines = (tmp_path / "polyp_table.md").read_text().splitlines()
    assert all(part in lines[0] for part in (name, "PraNet", "0.6"))
    cells = [[c.strip() for c in line[1:-1].split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == COLUMNS
    assert cells[-1][:6] == ["all", "5", "3", "2", "0.778", "0.667"]
    assert cells[-2][:6] == ["C3", "1", "0", "1", "", ""]
    assert len(cells) == 2 + 4
    assert "over images with polyps alone" in lines[-1]


def test_a_centre_with_a_bar_in_its_name_is_one_cell():
    one = {"dice": 1.0, "iou": 1.0, "num_gt": 1, "num_pred": 1, "found": 1, "false_positives": 0}
    head, _, row, _ = markdown(tabulate([one | {"centre": "a|b"}])).splitlines()
    assert row.startswith(r"| a\|b | 1 | 1 |")
    assert row.replace(r"\|", "").count("|") == head.count("|")


def test_images_have_their_figures_of_the_protocol(register, tmp_path):
    results = evaluate(register(IMAGES, CENTRES), tmp_path)
    rows = json.loads((tmp_path / "polyp_per_image.json").read_text())
    assert [row["centre"] for row in rows] == ["C2", "C2", "C2", "C1", "C3"]
    assert [row["image_id"] for row in rows if "protocol" in row] == [1, 2, 4]
    for name, value in results["polyp_protocol"].items():
        own = [row["protocol"].get(name) for row in rows if "protocol" in row]
        if name.startswith("max"):  # the maximum is of the mean over images
            assert own == [None] * 3
        else:
            assert np.mean(own) == pytest.approx(value, abs=1e-6)


def test_without_centres_and_protocol(register, tmp_path):
    evaluate(register(IMAGES), tmp_path, protocol=False)
    table = json.loads((tmp_path / "polyp_table.json").read_text())
    assert table["protocol"] is None
    assert [list(row) for row in table["rows"]] == [COLUMNS[:9]]
    assert table["rows"][0]["centre"] == "all"
    assert "PraNet" not in (tmp_path / "polyp_table.md").read_text()


def test_images_without_a_centre_have_a_row_beside_those_with_one(register, tmp_path):
    evaluate(register(IMAGES, {1: "C2", 3: "C2"}), tmp_path, protocol=False)
    rows = json.loads((tmp_path / "polyp_table.json").read_text())["rows"]
    assert [(row["centre"], row["images"]) for row in rows] == [
        ("C2", 2),
        ("(none)", 3),
        ("all", 5),
    ]


def test_nothing_is_written_without_a_folder(register, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluator = PolypEvaluator(register({1: [LEFT]}), distributed=False)
    evaluator.process([{"image_id": 1}], [{"instances": instances((0.9, LEFT))}])
    evaluator.evaluate()
    assert not list(tmp_path.iterdir())


def test_centres_are_read_from_the_coco_json(tmp_path):
    """Detectron2's loader drops what it does not know of an image, its centre among that."""
    images = [
        {"id": i, "file_name": f"{i}.png", "height": H, "width": W, "centre": centre}
        for i, centre in ((1, "C2"), (2, 0), (3, ""))
    ]
    for image in images:
        Image.new("RGB", (W, H)).save(tmp_path / image["file_name"])
    content = {
        "images": images,
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4,
             "iscrowd": 0, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
        ],
        "categories": [{"id": 1, "name": "polyp"}],
    }  # fmt: skip
    (tmp_path / "val.json").write_text(json.dumps(content))
    name = "polyp_test_centres"
    dicts = polyp_dataset(name, str(tmp_path / "val.json"), str(tmp_path))
    assert not any("centre" in item for item in dicts)
    assert image_centres(dicts, name) == {1: "C2", 2: "0"}
    evaluator = PolypEvaluator(name, output_dir=str(tmp_path), distributed=False)
    evaluator.process([{"image_id": 1}], [{"instances": instances((0.9, LEFT))}])
    evaluator.evaluate()
    rows = json.loads((tmp_path / "polyp_table.json").read_text())["rows"]
    assert [(row["centre"], row["Dice"]) for row in rows] == [("C2", 1), ("all", 1)]
    # What the dicts themselves say comes first, and needs no file.
    assert image_centres(dicts_of({1: []}, {1: "C9"}), "polyp_nowhere") == {1: "C9"}


def test_centres_are_sorted_and_unmixed():
    one = {"dice": 1.0, "iou": 1.0, "num_gt": 1, "num_pred": 1, "found": 1, "false_positives": 0}
    none = one | {"dice": 0.0, "iou": 0.0, "num_pred": 0, "found": 0}
    lines = tabulate([none | {"centre": "b"}, one | {"centre": "a"}, one | {"centre": "b"}])
    assert [(line["centre"], line["Dice"]) for line in lines] == [
        ("a", 1), ("b", 0.5), ("all", pytest.approx(2 / 3))
    ]  # fmt: skip
