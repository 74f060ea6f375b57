"""Saved predictions score what the evaluation that saved them found, and what pycocotools finds."""

import copy
import json
import math
import runpy
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from inspire_d2.evaluation import InspireCOCOEvaluator, saved

MAIN = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "score_predictions.py"))["main"]
H, W = 120, 160
TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
# Ids with gaps, not in order; no object is of the last.
CATEGORIES = [
    {"id": 5, "name": "adenoma"},
    {"id": 2, "name": "serrated"},
    {"id": 9, "name": "other"},
]


ANNOTATION = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 1, 9, 9], "area": 81,
              "iscrowd": 0}  # fmt: skip


def make_truth() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    annotations = []
    for image_id in range(1, 9):
        for category_id in (2, 5, 5):
            w, h = (int(v) for v in rng.integers(8, 60, 2))
            x, y = int(rng.integers(0, W - w)), int(rng.integers(0, H - h))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    images = [{"id": i, "height": H, "width": W, "file_name": f"{i}.jpg"} for i in range(1, 9)]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def predict(truth: dict[str, Any], image_id: int, reach: int) -> Instances:
    """The image's objects, moved by up to reach pixels, and a false positive of each class."""
    rng = np.random.default_rng(image_id)
    known = [(a["category_id"], a["bbox"]) for a in truth["annotations"]]
    mine = [(c, b) for a, (c, b) in zip(truth["annotations"], known, strict=True)
            if a["image_id"] == image_id]  # fmt: skip
    mine += [(c, [10 * c, 5, 30, 30]) for c in (2, 5, 9)]
    boxes = torch.tensor([b for _, b in mine], dtype=torch.float32)
    boxes[:, :2] += torch.from_numpy(rng.integers(-reach, reach + 1, (len(mine), 2)))
    boxes[:, 2:] += boxes[:, :2]
    result = Instances((H, W), pred_boxes=Boxes(boxes))
    result.pred_boxes.clip((H, W))
    result.scores = torch.from_numpy(rng.random(len(mine)).astype("float32"))
    result.pred_classes = torch.tensor([{2: 0, 5: 1, 9: 2}[c] for c, _ in mine])
    masks = torch.zeros(len(mine), H, W, dtype=torch.bool)
    for k, (x0, y0, x1, y1) in enumerate(result.pred_boxes.tensor.int().tolist()):
        masks[k, y0:y1, x0:x1] = True
    result.pred_masks = masks
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with truth.json and two runs, near and far, scored by InspireCOCOEvaluator."""
    folder = tmp_path_factory.mktemp("data")
    truth = make_truth()
    (folder / "truth.json").write_text(json.dumps(truth))
    for run, reach in (("near", 3), ("far", 9)):
        name = f"saved_test_{uuid.uuid4().hex}"
        MetadataCatalog.get(name).set(
            json_file=str(folder / "truth.json"),
            thing_classes=["serrated", "adenoma", "other"],
            thing_dataset_id_to_contiguous_id={2: 0, 5: 1, 9: 2},
        )
        evaluator = InspireCOCOEvaluator(name, distributed=False, output_dir=str(folder / run))
        for image_id in range(1, 8):  # none on the last image
            instances = predict(truth, image_id, reach)
            evaluator.process([{"image_id": image_id}], [{"instances": instances}])
        (folder / run / "evaluation.json").write_text(json.dumps(evaluator.evaluate()))
        MetadataCatalog.pop(name)
    return folder


def results_of(data: Path, run: str = "near") -> str:
    return str(data / run / "coco_instances_results.json")


def by_pycocotools(data: Path, run: str, task: str) -> COCOeval:
    truth = COCO(str(data / "truth.json"))
    results = json.loads(Path(results_of(data, run)).read_text())
    for one in results:
        if task == "segm":
            del one["bbox"]
    scorer = COCOeval(truth, truth.loadRes(results), task)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return scorer


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_numbers_are_those_of_the_evaluation_and_of_pycocotools(
    data: Path, tmp_path: Path, backend: str
) -> None:
    output = tmp_path / "new" / "scores.json"
    path = results_of(data)
    MAIN([path, "--truth", str(data / "truth.json"), "--backend", backend,
          "--output", str(output)])  # fmt: skip
    (scores,) = json.loads(output.read_text()).values()
    evaluated = json.loads((data / "near" / "evaluation.json").read_text())
    assert scores.keys() == evaluated.keys() == {"bbox", "segm"}
    for task, metrics in scores.items():
        stats = by_pycocotools(data, "near", task).stats
        assert 0.1 < stats[0] < 0.9 and (stats[:5] >= 0).all()  # could come out wrong
        for name, value in zip(TWELVE, stats, strict=True):
            assert metrics[name] == (pytest.approx(100 * value) if value >= 0 else None), name
        for name, value in evaluated[task].items():
            assert metrics[name] == (None if math.isnan(value) else pytest.approx(value)), name
        # What is predicted of a class that has no object has no AP, and lowers no other.
        assert metrics["AP-other"] is None
        assert metrics["AP"] == pytest.approx((metrics["AP-adenoma"] + metrics["AP-serrated"]) / 2)


def test_tables(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = results_of(data, "near"), results_of(data, "far")
    MAIN([near, far, near, "--truth", str(data / "truth.json")])
    printed = capsys.readouterr().out
    assert printed.count(": 42 predictions on 7 of 8 images") == 2  # a file named twice counts once
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    assert lines.count(["boxes", "AP", "AP50", "AP75", "AR100", "AR10", "AR1"]) == 2
    for task, first in (("bbox", 0), ("segm", 1)):
        stats = by_pycocotools(data, "near", task).stats
        shown = [f"{100 * stats[k]:.2f}" for k in (0, 1, 2, 8, 7, 6)]
        assert [line for line in lines if line[:1] == ["all"]][first] == ["all", *shown]
        small = [f"{100 * stats[3]:.2f}", "", "", f"{100 * stats[9]:.2f}", "", ""]
        assert [line for line in lines if line[:1] == ["small"]][first] == ["small", *small]
    # Of 24 objects 16 are of one class, and of 42 predictions 7 are of the class without.
    assert ["category", "objects", "predictions", "boxes AP", "masks AP"] in lines
    assert ["other", "0", "7", "-", "-"] in lines
    adenoma = [line for line in lines if line[:1] == ["adenoma"]][0]
    precision = by_pycocotools(data, "near", "segm").eval["precision"][:, :, 1, 0, -1]
    assert adenoma[1:3] == ["16", "21"] and adenoma[4] == f"{100 * precision.mean():.2f}"
    # The better comes last.
    rows = [line[0] for line in lines if line and line[0] in (near, far)]
    assert rows == [far, near]
    assert printed.splitlines()[-1] == "The best by the AP of masks is last."


def test_one_task_of_a_file_of_boxes(data: Path, tmp_path: Path, capsys) -> None:
    results = json.loads(Path(results_of(data)).read_text())
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{**one, "segmentation": None} for one in results]))
    truth = str(data / "truth.json")
    MAIN([str(boxes), "--truth", truth, "--tasks", "bbox"])
    assert "| masks" not in capsys.readouterr().out
    for one in results:
        del one["segmentation"]
    boxes.write_text(json.dumps(results))
    MAIN([str(boxes), results_of(data), "--truth", truth])
    printed = capsys.readouterr().out
    assert "The best by the AP of boxes is last." in printed
    assert "|          - |" in printed  # the file of boxes has no masks


def test_truth_without_iscrowd_has_no_crowds(data: Path, tmp_path: Path, capsys) -> None:
    truth = make_truth()
    MAIN([results_of(data), "--truth", str(data / "truth.json")])
    told = capsys.readouterr().out
    for annotation in truth["annotations"]:
        del annotation["iscrowd"]
    (tmp_path / "t.json").write_text(json.dumps(truth))
    MAIN([results_of(data), "--truth", str(tmp_path / "t.json")])
    assert capsys.readouterr().out == told


def test_no_predictions_score_zero(data: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    output = tmp_path / "scores.json"
    MAIN([str(tmp_path / "none.json"), "--truth", str(data / "truth.json"),
          "--output", str(output)])  # fmt: skip
    (scores,) = json.loads(output.read_text()).values()
    assert scores["bbox"]["AP"] == scores["segm"]["AP"] == scores["segm"]["AR100"] == 0


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as error:
        MAIN(words)
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[{]", "is not a JSON file"),
        ('{"AP": 3}', "holds a dict, not a list of predictions"),
        ('{"images": [], "categories": []}', "holds a COCO annotation file, not a list"),
        ("[3]", "prediction [0] is not an object with keys"),
    ],
)
def test_a_file_that_is_no_list_of_predictions(
    data: Path, tmp_path: Path, capsys, content: str, sentence: str
) -> None:
    (tmp_path / "r.json").write_text(content)
    words = [str(tmp_path / "r.json"), "--truth", str(data / "truth.json")]
    assert sentence in refused(words, capsys)


def test_files_that_are_not_there(data: Path, tmp_path: Path, capsys) -> None:
    gone = str(tmp_path / "gone.json")
    assert "gone.json cannot be read" in refused(
        [gone, "--truth", str(data / "truth.json")], capsys
    )
    assert "gone.json cannot be read" in refused([results_of(data), "--truth", gone], capsys)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"score": ...}, "prediction [1] lacks score"),
        ({"image_id": ..., "category_id": ...}, "prediction [1] lacks category_id, image_id"),
        ({"bbox": ...}, "prediction [1] lacks bbox"),
        ({"segmentation": ...}, "prediction [1] lacks segmentation"),
        ({"image_id": 77}, "1 of 42 predictions are of images that the ground truth lacks (image"),
        ({"image_id": "1"}, "lacks (image_id 1): they are of another data set"),
        ({"image_id": [1]}, "no number for its image_id"),
        ({"category_id": 1}, "are of categories that the ground truth lacks (category_id 1)"),
        ({"score": math.nan}, "a score that is not a finite number: [1]"),
        ({"score": True}, "a score that is not a finite number: [1]"),
        ({"score": "high"}, "a score that is not a finite number: [1]"),
        ({"bbox": [1, 2, 3]}, "a bbox that is not four finite numbers: [1]"),
        ({"bbox": [1, 2, 3, math.inf]}, "a bbox that is not four finite numbers: [1]"),
        ({"segmentation": [[1, 1, 9, 1, 9, 9]]}, "that is not a compressed RLE: [1]"),
        ({"segmentation": {"size": [H, W], "counts": [H * W]}}, "not a compressed RLE: [1]"),
        (
            {"segmentation": {"size": [W, H], "counts": "0"}},
            "prediction [1] has a mask of 160x120 on image 1, which is 120x160 (height x width)",
        ),
        ({"segmentation": {"size": [H, W], "counts": "T3"}}, "do not add up to its size: [1]"),
        ({"segmentation": {"size": [H, W], "counts": "é"}}, "do not add up to its size: [1]"),
    ],
)  # fmt: skip
def test_predictions_that_cannot_be_scored(
    data: Path, tmp_path: Path, capsys, changes: dict[str, Any], sentence: str
) -> None:
    results = json.loads(Path(results_of(data)).read_text())
    results[1] = {k: v for k, v in (results[1] | changes).items() if v is not ...}
    (tmp_path / "r.json").write_text(json.dumps(results))
    error = refused([str(tmp_path / "r.json"), "--truth", str(data / "truth.json")], capsys)
    assert sentence in error and "r.json: " in error


def of_object(**changes: Any) -> dict[str, Any]:
    return {"annotations": [ANNOTATION | changes]}


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"annotations": []}, "has no annotations: there is nothing to score on"),
        ({"annotations": ...}, "is not a COCO json: it has no list of annotations"),
        ({"images": ...}, "is not a COCO json: it has no list of images"),
        ({"images": [{"id": 1}]}, "one of its images lacks one of id, file_name, height, width"),
        ({"categories": CATEGORIES[:1] * 2}, "some of its categories have the same id"),
        (
            {"categories": [{"id": 5, "name": "a"}, {"id": 2, "name": "a"}]},
            "several of its categories are called a: scores by category would mix them up",
        ),
        (of_object(image_id=99), "1 annotations have a image_id that none of its images has"),
        (of_object(category_id=1), "1 annotations have a category_id that none of its categories"),
        (of_object(bbox=[25, 5, -20, 20]), "with a negative width or height"),
        (of_object(bbox=[1, 1, "9", 9]), "whose bbox is not four numbers"),
        (of_object(area=None), "without an area of 0 or more"),
        (of_object(area=math.nan), "without an area of 0 or more"),
        (of_object(area=-1), "without an area of 0 or more"),
        (of_object(iscrowd=2), "has iscrowd 2, not 0 or 1"),
        (
            {"annotations": [ANNOTATION | {"segmentation": {"size": [H, W], "counts": "T3"}}]},
            "whose RLE counts do not add up to the image's pixels",
        ),
    ],
)
def test_truth_that_cannot_be_used(
    data: Path, tmp_path: Path, capsys, changes: dict[str, Any], sentence: str, backend: str
) -> None:
    truth = {k: v for k, v in (make_truth() | changes).items() if v is not ...}
    (tmp_path / "t.json").write_text(json.dumps(truth))
    words = [results_of(data), "--truth", str(tmp_path / "t.json"), "--backend", backend]
    assert sentence in refused(words, capsys)


def test_masks_where_the_truth_has_none(data: Path, tmp_path: Path, capsys) -> None:
    truth = copy.deepcopy(make_truth())
    for one in truth["annotations"]:
        del one["segmentation"]
    (tmp_path / "t.json").write_text(json.dumps(truth))
    words = [results_of(data), "--truth", str(tmp_path / "t.json")]
    assert "annotation 1 has no mask: score bbox alone" in refused(words, capsys)
    MAIN([*words, "--tasks", "bbox"])


def test_options(data: Path, tmp_path: Path, capsys) -> None:
    words = [results_of(data), "--truth", str(data / "truth.json")]
    assert "there is no task box" in refused([*words, "--tasks", "box"], capsys)
    assert "backend='fast'" in refused([*words, "--backend", "fast"], capsys)
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "scores.json")
    assert "cannot be written" in refused([*words, "--output", output], capsys)


def test_ctrl_c(data: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(saved, "read_results", interrupt)
    with pytest.raises(SystemExit) as error:
        MAIN([results_of(data), "--truth", str(data / "truth.json")])
    assert error.value.code == 130 and capsys.readouterr().err == "interrupted\n"
