"""The study's table of detectors: mask AP beside its interval."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as mask_api

from tools.study_report import read_matches, table

BOXES = {"good": [10.0, 10.0, 40.0, 40.0], "bad": [16.0, 16.0, 40.0, 40.0]}


def mask_of(box: list[float]) -> dict:
    x, y, w, h = map(int, box)
    mask = np.zeros((100, 100), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    rle = mask_api.encode(mask)
    return rle | {"counts": rle["counts"].decode()}


@pytest.fixture
def runs(tmp_path: Path) -> list[SimpleNamespace]:
    images = [{"id": i, "height": 100, "width": 100} for i in range(1, 9)]
    truth = {
        "images": images,
        "categories": [{"id": 1, "name": "polyp"}],
        "annotations": [
            {"id": image["id"], "image_id": image["id"], "category_id": 1, "iscrowd": 0,
             "area": 1600.0, "bbox": BOXES["good"], "segmentation": mask_of(BOXES["good"])}
            for image in images
        ],
    }  # fmt: skip
    (tmp_path / "data" / "C1").mkdir(parents=True)
    (tmp_path / "data" / "C1" / "val.json").write_text(json.dumps(truth))
    made = []
    for variant, kind in (("plain", "bad"), ("steps1", "good")):
        for seed in (0, 1):
            folder = tmp_path / variant / str(seed)
            folder.mkdir(parents=True)
            results = [
                {"image_id": image["id"], "category_id": 1, "score": 0.9, "bbox": BOXES[kind],
                 "segmentation": mask_of(BOXES[kind])}
                for image in images
            ]  # fmt: skip
            (folder / "coco_instances_results.json").write_text(json.dumps(results))
            run = SimpleNamespace(
                variant=variant, centre="C1", seed=seed, folder=folder, data=tmp_path / "data"
            )
            made.append(run)
    return made


def rows_of(runs: list[SimpleNamespace]) -> list[list[str]]:
    results = [
        {
            "variant": run.variant, "centre": "C1", "seed": run.seed, "iterations": 1,
            "parameters": 1, "seconds": 1.0, "dice": [0.5] * 8, "small": [False] * 8,
            "scores": {"polyp Dice": 0.5, "segm AP": ap},
        }
        for run, ap in zip(runs, (20.0, 20.0, 100.0, 100.0), strict=True)
    ]  # fmt: skip
    lines = table(results, read_matches(runs), "plain").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_has_the_interval_of_mask_ap(runs: list[SimpleNamespace]) -> None:
    head, _, plain, ours = rows_of(runs)
    assert head[-3:] == ["mask AP", "- plain", "95 % interval"]
    assert plain[-3:] == ["20.0", "-", "-"]
    # A mask moved by 6 of 40 pixels each way has an IoU of 0.57: right at 2 of 10 thresholds.
    assert ours[-3:] == ["100.0", "+80.0", "+80.0 to +80.0"]


def test_mask_ap_without_an_object_is_a_dash(runs: list[SimpleNamespace]) -> None:
    file = runs[0].data / "C1" / "val.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    assert rows_of(runs)[-1][-2:] == ["-", "-"]


def test_a_difference_over_fewer_runs_is_noted() -> None:
    def result(variant: str, seed: int, dice: float) -> dict:
        return {
            "variant": variant, "centre": "C1", "seed": seed, "iterations": 1, "parameters": 1,
            "seconds": 1.0, "dice": [dice] * 8, "small": [False] * 8,
            "scores": {"polyp Dice": dice},
        }  # fmt: skip

    paired = [result("plain", 0, 0.5), result("steps1", 0, 0.6)]
    assert "Differences" not in table(paired, {}, "plain")
    unfinished = [*paired, result("steps1", 1, 0.9), result("steps2", 1, 0.9)]
    lines = table(unfinished, {}, "plain").splitlines()
    row = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert (row[6], row[8]) == ("75.0", "+10.0")  # of both its runs, of the one that plain has
    assert lines[-1] == (
        "Differences are over the runs that both have: steps1 1 of 2, plain 1 of 1."
    )


@pytest.mark.parametrize(
    ("baseline", "times"), [("plain", ["-", "2.00"]), ("plain_1.2x", ["1.00", "2.00"])]
)
def test_a_baseline_that_trains_longer_has_a_time_too(baseline: str, times: list[str]) -> None:
    def result(variant: str, seconds: float, iterations: int = 1) -> dict:
        return {
            "variant": variant, "centre": "C1", "seed": 0, "iterations": iterations,
            "parameters": 1, "seconds": seconds, "dice": [0.5] * 8, "small": [False] * 8,
            "scores": {"polyp Dice": 0.5},
        }  # fmt: skip

    results = [result("plain", 1.0), result("plain_1.2x", 1.0, 2), result("steps1", 2.0)]
    lines = table(results, {}, baseline).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][4] == f"x {baseline}"
    assert [row[4] for row in rows[2:] if row[0] != "plain"] == times
