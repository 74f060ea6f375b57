"""Judging cases: by hand on tiny images, and against PolypEvaluator on made-up predictions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest

from inspire_d2.errors import InputError
from inspire_d2.evaluation.polyp_masks import annotation_masks, crowd_region
from inspire_d2.evaluation.polyp_match import judge
from inspire_d2.report.cases import case_from_row, judge_case
from inspire_d2.report.comparison import compare
from inspire_d2.report.results import case_intervals, key_figures
from inspire_d2.report.sizes import COCO_SIZES, POLYP_SIZES, count_by_size
from inspire_d2.report.subject import gather
from inspire_d2.report.truth import Item, Thing, shown_names

from .runs import rle, write_run, write_set


def square(
    left: int, top: int, side: int, score: float = 1.0, category: int = 1, crowd: bool = False
) -> Thing:
    """A square in an image of 20 x 20 pixels."""
    mask = np.zeros((20, 20), bool)
    mask[top : top + side, left : left + side] = True
    return Thing(category, [left, top, side, side], rle(mask), score, crowd)


def item(*things: Thing) -> Item:
    return Item(1, "a.jpg", 20, 20, things=list(things))


def test_counts_and_dice_by_hand() -> None:
    truth = item(square(0, 0, 4), square(10, 10, 8))
    predicted = [
        square(0, 0, 4, 0.9),  # finds the first
        square(1, 0, 4, 0.8),  # an IoU of 12 / 20 with it, but it is taken
        square(12, 0, 2, 0.6),  # nothing there
        square(10, 10, 8, 0.4),  # finds the second, below the threshold
    ]
    case = judge_case(truth, predicted, 0.5, with_dice=True)
    assert (case.num_true, case.num_found, case.num_false, case.num_predicted) == (2, 1, 2, 3)
    assert case.missed == [truth.things[1]] and case.false == predicted[1:3]
    # 16 of 16 + 64 true pixels, and 16 + 4 + 4 predicted ones
    assert case.dice == pytest.approx(2 * 16 / (80 + 24))
    assert case.iou == pytest.approx(16 / (80 + 24 - 16))
    assert case.truth_share == 80 / 400
    assert case.f1 == pytest.approx(2 * 1 / (2 + 3))
    # Every score is judged, also below the threshold.
    assert case.scored == [(0.9, True), (0.8, False), (0.6, False), (0.4, True)]


def test_nothing_there_and_nothing_predicted_is_right() -> None:
    case = judge_case(item(), [square(0, 0, 4, 0.3)], 0.5, with_dice=True)
    assert (case.dice, case.iou, case.f1) == (1.0, 1.0, 1.0)
    case = judge_case(item(), [square(0, 0, 4, 0.7)], 0.5, with_dice=True)
    assert (case.dice, case.iou, case.f1, case.num_false) == (0.0, 0.0, 0.0, 1)


def test_categories_crowds_and_boxes() -> None:
    truth = item(square(0, 0, 4, category=1), square(8, 8, 10, category=2, crowd=True))
    predicted = [
        square(0, 0, 4, 0.9, category=2),  # the place is right, the category is not
        square(9, 9, 4, 0.8, category=2),  # within the crowd: counts neither way
        square(9, 9, 4, 0.7, category=1),  # a crowd of another category: false
    ]
    for bare in (False, True):
        if bare:
            truth.things = [one._replace(mask=None) for one in truth.things]
            predicted = [one._replace(mask=None) for one in predicted]
        case = judge_case(truth, predicted, 0.5, with_dice=False)
        assert (case.num_true, case.num_found, case.num_predicted) == (1, 0, 2), bare
        assert [thing.score for thing in case.false] == [0.9, 0.7] and case.dice is None
    # PolypEvaluator, whose figures the report repeats, asks for the place alone.
    case = judge_case(item(square(0, 0, 4)), [square(0, 0, 4, category=2)], 0.5, with_dice=True)
    assert (case.num_found, case.num_false, case.dice) == (1, 0, 1.0)


def test_cases_with_crowds_are_those_of_the_evaluator() -> None:
    """Squares at random, a third of the objects crowds; some crowds lie on objects."""
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        places = [(*map(int, rng.integers(0, 12, 2)), int(rng.integers(3, 9))) for _ in range(3)]
        things = [square(*place, crowd=rng.random() < 0.34) for place in places]
        scores = np.sort(rng.random(4))[::-1]
        predicted = [
            square(max(x + int(rng.integers(-1, 2)), 0), y, side, float(score))
            for score, (x, y, side) in zip(scores, [*places, (14, 14, 5)], strict=True)
        ]
        case = judge_case(item(*things), predicted, 0.3, with_dice=True)
        record = {"image_id": 1, "file_name": "a.jpg", "height": 20, "width": 20}
        record["annotations"] = [{"segmentation": t.mask, "iscrowd": int(t.crowd)} for t in things]
        masks = [mask_util.decode(p.mask) for p in predicted if p.score >= 0.3]
        true = annotation_masks(record)
        crowd = crowd_region(record, true)
        row = judge(record, np.array(masks, bool).reshape(-1, 20, 20), true, crowd)
        mine = (case.num_true, case.num_predicted, case.num_found, case.num_false)
        assert mine == tuple(row[k] for k in ("num_gt", "num_pred", "found", "false_positives"))
        assert (case.dice, case.iou) == (row["dice"], row["iou"])
        from_row = case_from_row(row, case.item)
        assert case.is_negative == from_row.is_negative
        kinds.add((case.is_negative, case.has_crowd, bool(case.num_true), len(masks) > mine[1]))
    assert {kind[1:] for kind in kinds} >= {(True, True, True), (True, False, True)}
    only_crowd = judge_case(item(square(0, 0, 9, crowd=True)), [], 0.3, with_dice=True)
    figures = case_intervals([only_crowd, only_crowd])
    assert figures.keys() == {"fp_per_image"} and figures["fp_per_image"].value == 0


def test_sizes_by_hand() -> None:
    truth = item(square(0, 0, 4), square(10, 10, 8))  # 4 % and 16 % of the image
    predicted = [square(10, 10, 8, 0.9), square(0, 12, 1, 0.8), square(0, 15, 2, 0.7)]
    case = judge_case(truth, predicted, 0.5, with_dice=True)
    counts = count_by_size([case, case], POLYP_SIZES)
    assert counts.missed == [0, 0, 2, 0, 0, 0]
    assert counts.found == [0, 0, 0, 0, 2, 0]
    assert counts.false == [2, 2, 0, 0, 0, 0]  # 1 and 4 of 400 pixels: 0.25 % and, just, 1 %
    large = Thing(1, [0, 0, 96, 96], None)
    wide = Item(1, "a.jpg", 200, 200, things=[large, Thing(1, [0, 100, 32, 32], None)])
    case = judge_case(wide, [Thing(1, [150, 0, 31, 33], None, 0.9)], 0.5, with_dice=False)
    counts = count_by_size([case], COCO_SIZES)
    assert counts == ([0, 0, 0], [0, 1, 1], [1, 0, 0])  # 31 x 33 is below 32 x 32


def test_cases_are_those_of_the_evaluator(runs: tuple[Path, Path]) -> None:
    subject = gather(runs[0])
    assert subject.notes == []
    rows = {
        row["image_id"]: row for row in json.loads((runs[0] / "polyp_per_image.json").read_text())
    }
    assert len(rows) == len(subject.cases) == 24
    for case in subject.cases:
        row = rows[case.item.id]
        assert case.dice == pytest.approx(row["dice"], abs=1e-12)
        assert case.iou == pytest.approx(row["iou"], abs=1e-12)
        mine = (case.num_true, case.num_predicted, case.num_found, case.num_false)
        assert mine == tuple(row[k] for k in ("num_gt", "num_pred", "found", "false_positives"))
        assert case.truth_pixels == row["gt_pixels"] and case.item.centre == row["centre"]


def test_a_single_image_is_shown_without_intervals(tmp_path: Path) -> None:
    json_file = write_set(tmp_path / "data", 1)
    runs = [write_run(tmp_path / f"run{k}", json_file, f"single_{tmp_path.name}", seed=k)
            for k in (1, 2)]  # fmt: skip
    subjects = [gather(run) for run in runs]
    assert len(subjects[0].cases) == 1
    figures = key_figures(subjects[0])
    assert figures and not any(figure.interval for figure in figures)
    rows = compare(*subjects).key_table.rows
    assert {row[0].text for row in rows} >= {"Dice", "polyps found"}
    assert all(row[4].text == "-" for row in rows)


def test_predictions_of_another_checkpoint_are_noted(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(runs[0], tmp_path / "run")
    shutil.copy(runs[1] / "coco_instances_results.json", run)
    (note,) = gather(run).notes
    assert "of different checkpoints" in note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, "of another set"),
        ({"segmentation": {"size": [5, 5], "counts": "i0"}}, "has a mask of 5x5, the image is"),
        ({"score": None}, "not in COCO's format"),
    ],
)
def test_saved_predictions_that_do_not_fit(
    runs: tuple[Path, Path], tmp_path: Path, change: dict, message: str
) -> None:
    run = shutil.copytree(runs[0], tmp_path / "run")
    path = run / "coco_instances_results.json"
    results = json.loads(path.read_text())
    results[0] |= change
    path.write_text(json.dumps(results))
    with pytest.raises(InputError, match=message):
        gather(run)


def test_names_are_shown_without_what_they_have_in_common() -> None:
    assert shown_names(["/d/images/a.jpg", "/d/images/b.jpg"]) == ["a.jpg", "b.jpg"]
    assert shown_names(["/d/x/1.jpg", "/d/y/1.jpg"]) == ["x/1.jpg", "y/1.jpg"]
    assert shown_names(["/d/x/1.jpg", "/d/y/2.jpg"]) == ["1.jpg", "2.jpg"]
    assert shown_names([]) == []
