"""COCO metrics where a model predicts nothing, and agreement with pycocotools run directly."""

import json
import math
import uuid

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from inspire_d2.errors import InputError
from inspire_d2.evaluation import InspireCOCOEvaluator

H, W = 120, 160
SMALL = [10, 10, 20, 20]  # x, y, width, height: 400 square pixels
LARGE = [40, 10, 100, 100]  # 10000


def annotation(
    number: int, image_id: int, box: list[int], polygons: bool = True, category_id: int = 1
) -> dict:
    x, y, w, h = box
    result = {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": w * h,
        "iscrowd": 0,
    }
    if polygons:
        result["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return result


@pytest.fixture
def register(tmp_path):
    names = []

    def add(annotations: list[dict], num_images: int = 2, categories=((1, "polyp"),)) -> str:
        name = f"coco_test_{uuid.uuid4().hex}"
        path = tmp_path / f"{name}.json"
        images = [
            {"id": i, "height": H, "width": W, "file_name": f"{i}.jpg"}
            for i in range(1, num_images + 1)
        ]
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number, "name": label} for number, label in categories],
        }
        path.write_text(json.dumps(content))
        MetadataCatalog.get(name).set(
            json_file=str(path),
            thing_classes=[label for _, label in categories],
            thing_dataset_id_to_contiguous_id={n: k for k, (n, _) in enumerate(categories)},
        )
        names.append(name)
        return name

    yield add
    for name in names:
        MetadataCatalog.pop(name, None)


def instances(*scored: tuple[float, list[float]], masks: bool = True) -> Instances:
    """Boxes as x, y, width, height; a mask fills its box."""
    result = Instances((H, W))
    boxes = torch.tensor([box for _, box in scored], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    result.pred_boxes = Boxes(boxes)
    result.scores = torch.tensor([score for score, _ in scored])
    result.pred_classes = torch.zeros(len(scored), dtype=torch.long)
    if masks:
        filled = torch.zeros(len(scored), H, W, dtype=torch.bool)
        for k, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
            filled[k, y0:y1, x0:x1] = True
        result.pred_masks = filled
    return result


def evaluate(name: str, predictions: dict[int, Instances], **options) -> dict:
    evaluator = InspireCOCOEvaluator(dataset_name=name, distributed=False, **options)
    evaluator.reset()
    for image_id, prediction in predictions.items():
        evaluator.process([{"image_id": image_id}], [{"instances": prediction}])
    return evaluator.evaluate()


def test_no_predictions_gives_zero_where_there_is_truth(register, tmp_path):
    name = register([annotation(1, 1, SMALL), annotation(2, 2, LARGE)])
    out = tmp_path / "out"
    results = evaluate(name, {1: instances(), 2: instances()}, output_dir=str(out))
    assert set(results) == {"bbox", "segm"}
    for metrics in results.values():
        for key in ("AP", "AP50", "AP75", "APs", "APl"):
            assert metrics[key] == 0
        assert math.isnan(metrics["APm"])  # no object of that size
    assert json.loads((out / "coco_instances_results.json").read_text()) == []
    assert (out / "instances_predictions.pth").stat().st_size > 0


def test_no_predictions_of_a_box_model_has_no_segm(register):
    name = register([annotation(1, 1, SMALL)])
    results = evaluate(name, {1: instances(masks=False), 2: instances(masks=False)})
    assert set(results) == {"bbox"}
    assert results["bbox"]["AP"] == 0


def test_tasks_from_a_lazy_config(register):
    name = register([annotation(1, 1, SMALL)])
    config = LazyCall(InspireCOCOEvaluator)(
        dataset_name=name, tasks=["segm"], distributed=False, max_dets_per_image=20
    )
    evaluator = instantiate(config)
    evaluator.process([{"image_id": 1}], [{"instances": instances()}])
    results = evaluator.evaluate()
    assert set(results) == {"segm"}
    assert results["segm"]["AP"] == 0


def test_a_task_by_its_name_is_one_task(register):
    evaluator = InspireCOCOEvaluator(
        register([annotation(1, 1, SMALL)]), tasks="bbox", distributed=False
    )
    evaluator.process([{"image_id": 1}], [{"instances": instances((0.9, SMALL))}])
    assert evaluator.evaluate().keys() == {"bbox"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tasks": ("bbox", "boxes")}, "'boxes' is none of bbox, segm, keypoints"),
        ({"tasks": "box"}, "'box' is none of bbox, segm, keypoints"),
        (
            {"max_dets_per_image": [1, 10, 300]},
            r"\[1, 10, 300\] must be a whole number",
        ),
        ({"max_dets_per_image": 0}, "max_dets_per_image=0 must be a whole number from 1 up"),
    ],
)
def test_options_are_checked_before_anything_is_predicted(register, options, sentence):
    with pytest.raises(InputError, match=sentence):
        InspireCOCOEvaluator(register([annotation(1, 1, SMALL)]), distributed=False, **options)


def test_no_truth_and_no_predictions_stays_undefined(register):
    results = evaluate(register([]), {1: instances(), 2: instances()})
    assert math.isnan(results["bbox"]["AP"])


def test_perfect_prediction_is_100(register):
    name = register([annotation(1, 1, SMALL), annotation(2, 2, LARGE)])
    results = evaluate(name, {1: instances((0.9, SMALL)), 2: instances((0.8, LARGE))})
    for task in ("bbox", "segm"):
        assert results[task]["AP"] == pytest.approx(100)
        assert results[task]["APs"] == pytest.approx(100)


def test_agrees_with_pycocotools(register):
    """Jittered boxes and false positives: the same numbers as COCOeval on the same json."""
    rng = np.random.default_rng(1)
    annotations, predictions, rows = [], {}, []
    for image_id in range(1, 9):
        boxes = [[8, 8, 30, 25], [60, 40, 60, 60]]
        annotations += [annotation(2 * image_id + k, image_id, b) for k, b in enumerate(boxes)]
        boxes.append([5, 90, 20, 20])
        shifts = rng.integers(-6, 7, (3, 4)) * np.array([1, 1, 0, 0])
        scored = [
            (float(np.float32(rng.random())), (np.array(b) + s).tolist())
            for b, s in zip(boxes, shifts, strict=True)
        ]
        scored = [(s, [max(b[0], 0), max(b[1], 0), b[2], b[3]]) for s, b in scored]
        predictions[image_id] = instances(*scored)
        rows += [{"image_id": image_id, "category_id": 1, "bbox": b, "score": s} for s, b in scored]
    name = register(annotations, num_images=8)
    results = evaluate(name, predictions)
    truth = COCO(MetadataCatalog.get(name).json_file)
    direct = COCOeval(truth, truth.loadRes(rows), "bbox")
    direct.evaluate()
    direct.accumulate()
    direct.summarize()
    assert 5 < direct.stats[0] * 100 < 95  # a case that could come out wrong
    for index, key in enumerate(["AP", "AP50", "AP75", "APs", "APm", "APl"]):
        if direct.stats[index] >= 0:
            assert results["bbox"][key] == pytest.approx(100 * direct.stats[index], abs=1e-9)
        else:
            assert math.isnan(results["bbox"][key])


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_ap_of_each_category(register, backend):
    """Category ids with gaps, classes found well and badly, and one without an object."""
    rng = np.random.default_rng(2)
    annotations, predictions = [], {}
    rows = {"bbox": [], "segm": []}
    for image_id in range(1, 7):
        objects = [(2, [8, 8, 30, 24]), (5, [60, 40, 60, 60]), (5, [10, 70, 20, 20])]
        for category_id, box in objects:
            number = len(annotations) + 1
            annotations.append(annotation(number, image_id, box, category_id=category_id))
        guesses = [*objects, (9, [100, 5, 30, 30]), (5, [100, 5, 30, 30])]
        reach = np.array([2, 8, 8, 0, 0])[:, None] * np.array([1, 1, 0, 0])
        boxes = np.array([box for _, box in guesses]) + np.rint(reach * rng.uniform(-1, 1, (5, 4)))
        scores = rng.random(5).astype("float32").tolist()
        predicted = instances(*zip(scores, boxes.tolist(), strict=True))
        predicted.pred_classes = torch.tensor([{2: 0, 5: 1, 9: 2}[c] for c, _ in guesses])
        predictions[image_id] = predicted
        for k, ((category_id, _), score) in enumerate(zip(guesses, scores, strict=True)):
            row = {"image_id": image_id, "category_id": category_id, "score": score}
            mask = np.asfortranarray(predicted.pred_masks[k].numpy().astype(np.uint8))
            rows["bbox"].append({**row, "bbox": boxes[k].tolist()})
            rows["segm"].append({**row, "segmentation": mask_util.encode(mask)})
    categories = ((2, "flat"), (5, "round"), (9, "none"))
    name = register(annotations, num_images=6, categories=categories)
    results = evaluate(name, predictions, backend=backend)
    for task in ("bbox", "segm"):
        truth = COCO(MetadataCatalog.get(name).json_file)
        for category_id, label in categories[:2]:
            direct = COCOeval(truth, truth.loadRes([dict(r) for r in rows[task]]), task)
            direct.params.catIds = [category_id]
            direct.evaluate()
            direct.accumulate()
            direct.summarize()
            assert 0.05 < direct.stats[0] < 0.95  # a case that could come out wrong
            assert results[task][f"AP-{label}"] == pytest.approx(100 * direct.stats[0], abs=1e-6)
        assert math.isnan(results[task]["AP-none"])
        # A class without an object is not in the mean.
        both = (results[task]["AP-flat"] + results[task]["AP-round"]) / 2
        assert results[task]["AP"] == pytest.approx(both)


def test_no_images_is_an_input_error(register):
    with pytest.raises(InputError, match="has no images"):
        evaluate(register([], num_images=0), {})
    with pytest.raises(InputError, match="no image of"):
        evaluate(register([annotation(1, 1, SMALL)]), {})


def test_unknown_or_unusable_sets_are_named(register, tmp_path):
    with pytest.raises(InputError, match="coco_nowhere"):
        InspireCOCOEvaluator("coco_nowhere")
    assert "coco_nowhere" not in MetadataCatalog  # asking did not create it
    name = register([])
    MetadataCatalog.pop(name)
    MetadataCatalog.get(name).json_file = str(tmp_path / "gone.json")
    with pytest.raises(InputError, match=r"gone\.json"):
        InspireCOCOEvaluator(name)


def test_a_set_of_dicts_is_converted_anew(tmp_path):
    """A json left in output_dir by other data is not taken for this set's."""
    name = "coco_test_dicts"
    mask = torch.zeros(1, H, W, dtype=torch.bool)
    mask[:, 10:30, 10:30] = True
    box = BitMasks(mask).get_bounding_boxes().tensor[0].tolist()
    item = {"file_name": "1.jpg", "image_id": 1, "height": H, "width": W}
    item["annotations"] = [
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": 0,
            "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
        }
    ]
    DatasetCatalog.register(name, lambda: [item])
    MetadataCatalog.get(name).thing_classes = ["polyp"]
    stale = {"images": [], "annotations": [], "categories": []}
    (tmp_path / f"{name}_coco_format.json").write_text(json.dumps(stale))
    try:
        with pytest.raises(InputError, match="output_dir"):
            InspireCOCOEvaluator(name)
        results = evaluate(name, {1: instances((0.9, SMALL))}, output_dir=str(tmp_path))
        assert results["segm"]["AP"] == pytest.approx(100)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


@pytest.mark.parametrize("first", [0, 1])
def test_keypoints_that_are_where_they_should_be_are_found(register, first):
    boxes = [SMALL, LARGE]
    points = [[value for _ in range(17) for value in (box[0] + 5, box[1] + 5, 2)] for box in boxes]
    truth = [
        annotation(number, 1, box) | {"keypoints": own, "num_keypoints": 17}
        for number, (box, own) in enumerate(zip(boxes, points, strict=True), start=first)
    ]
    found = instances(*((1.0, box) for box in boxes), masks=False)
    found.pred_keypoints = torch.tensor(points, dtype=torch.float32).reshape(2, 17, 3)
    # Detectron2 takes half a pixel away from what a model predicts.
    found.pred_keypoints[:, :, :2] += 0.5
    assert evaluate(register(truth), {1: found})["keypoints"]["AP"] == 100
