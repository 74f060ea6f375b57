"""Polyp metrics against values computed by hand, on images of 4 x 6 pixels."""

import json
import sys

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from inspire_d2.errors import InputError
from inspire_d2.evaluation.polyp import PolypEvaluator

from .polyp_helpers import LEFT, RIGHT, TALL, H, W, dicts_of, instances, registering


@pytest.fixture
def register():
    with registering() as add:
        yield add


def evaluate_all(name: str, predictions: dict, **options) -> dict[str, dict[str, float]]:
    evaluator = PolypEvaluator(name, distributed=False, **options)
    for image_id, scored in predictions.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances(*scored)}])
    return evaluator.evaluate()


def evaluate(name: str, predictions: dict, **options) -> dict[str, float]:
    return evaluate_all(name, predictions, **options)["polyp"]


def test_values_by_hand(register, tmp_path):
    name = register({1: [LEFT], 2: [LEFT, RIGHT], 3: [], 4: []})
    metrics = evaluate(
        name,
        {
            1: [(0.9, TALL), (0.4, RIGHT)],  # 4 of 8 + 4: Dice 8/12, IoU 4/8, found at 0.5 exactly
            2: [(0.8, RIGHT), (0.7, RIGHT)],  # 4 of 4 + 8: Dice 8/12, IoU 4/8; one is a duplicate
            3: [(0.3, LEFT)],  # below the threshold: clean
            4: [(0.6, LEFT)],
        },
        output_dir=str(tmp_path),
        protocol=False,
    )
    assert metrics == pytest.approx(
        {
            "Dice": 2 / 3,
            "IoU": 0.5,
            "Dice_all": (2 / 3 + 2 / 3 + 1 + 0) / 4,
            "recall": 2 / 3,
            "specificity": 0.5,
            "fp_per_image": 2 / 4,
        }
    )
    rows = json.loads((tmp_path / "polyp_per_image.json").read_text())
    assert [row["image_id"] for row in rows] == [1, 2, 3, 4]
    assert rows[1] == {
        "image_id": 2,
        "file_name": "2.jpg",
        "dice": pytest.approx(2 / 3),
        "iou": 0.5,
        "gt_pixels": 8,
        "num_gt": 2,
        "num_pred": 2,
        "found": 1,
        "false_positives": 1,
    }


def test_threshold_keeps_equal_scores_and_drops_lower_ones(register):
    name = register({1: [LEFT]})
    assert evaluate(name, {1: [(0.75, LEFT)]}, score_threshold=0.75)["Dice"] == 1
    assert evaluate(name, {1: [(0.74, LEFT)]}, score_threshold=0.75)["Dice"] == 0


def test_no_predictions_gives_zeros(register):
    name = register({1: [LEFT], 2: [RIGHT, LEFT], 3: []})
    assert evaluate(name, {1: [], 2: [], 3: []}) == pytest.approx(
        {
            "Dice": 0,
            "IoU": 0,
            "Dice_all": 1 / 3,
            "recall": 0,
            "specificity": 1,
            "fp_per_image": 0,
        }
    )


def test_negatives_only_leaves_dice_out(register, caplog):
    name = register({1: [], 2: []})
    with caplog.at_level("INFO"):
        metrics = evaluate(name, {1: [], 2: [(0.9, LEFT), (0.8, RIGHT)]})
    assert metrics == {"specificity": 0.5, "Dice_all": 0.5, "fp_per_image": 1.0}
    assert "Dice, IoU and recall are left out" in caplog.text


def test_positives_only_leaves_specificity_out(register, caplog):
    name = register({1: [LEFT]})
    with caplog.at_level("INFO"):
        metrics = evaluate(name, {1: [(0.9, LEFT)]})
    assert metrics == {"Dice": 1, "IoU": 1, "recall": 1, "Dice_all": 1, "fp_per_image": 0}
    assert "specificity is left out" in caplog.text


def test_empty_set_is_an_input_error(register):
    with pytest.raises(InputError, match="no image"):
        evaluate(register({}), {})


def test_an_image_seen_twice_counts_once(register):
    evaluator = PolypEvaluator(register({1: [LEFT], 2: [RIGHT]}), distributed=False)
    for image_id, found in ((1, LEFT), (2, LEFT), (1, LEFT)):
        evaluator.process([{"image_id": image_id}], [{"instances": instances((0.9, found))}])
    assert evaluator.evaluate()["polyp"]["Dice"] == 0.5


def test_reset_forgets(register):
    name = register({1: [LEFT]})
    evaluator = PolypEvaluator(name, distributed=False)
    evaluator.process([{"image_id": 1}], [{"instances": instances((0.9, LEFT))}])
    evaluator.reset()
    with pytest.raises(InputError):
        evaluator.evaluate()


def test_agrees_with_dice_from_confusion_counts(register):
    """Dice and IoU from a 2 x 2 confusion matrix of pixel labels, on random masks."""
    rng = np.random.default_rng(0)
    truth = {i: [rng.random((17, 23)) < 0.3] for i in range(8)}
    guess = {i: rng.random((2, 17, 23)) < 0.2 for i in range(8)}
    evaluator = PolypEvaluator(register(truth), distributed=False)
    dices, ious = [], []
    for i in truth:
        output = instances((0.9, guess[i][0]), (0.5, guess[i][1]), size=(17, 23))
        evaluator.process([{"image_id": i}], [{"instances": output}])
        labels = 2 * truth[i][0].ravel() + np.bitwise_or(*guess[i]).ravel()
        _, fp, fn, tp = np.bincount(labels.astype(int), minlength=4)
        precision, sensitivity = tp / (tp + fp), tp / (tp + fn)
        dices.append(2 * precision * sensitivity / (precision + sensitivity))  # F1 is Dice
        ious.append(tp / (tp + fp + fn))
    metrics = evaluator.evaluate()["polyp"]
    assert metrics["Dice"] == pytest.approx(np.mean(dices), abs=1e-12)
    assert metrics["IoU"] == pytest.approx(np.mean(ious), abs=1e-12)


def test_wrong_input_is_named(register):
    name = register({1: [LEFT]})
    evaluator = PolypEvaluator(name, distributed=False)
    boxes = Instances((H, W), pred_boxes=Boxes(torch.zeros(1, 4)), scores=torch.ones(1))
    with pytest.raises(InputError, match="no 'pred_masks'.*pred_boxes, scores"):
        evaluator.process([{"image_id": 1}], [{"instances": boxes}])
    with pytest.raises(InputError, match="image 7 is not in the data set"):
        evaluator.process([{"image_id": 7}], [{"instances": instances()}])
    with pytest.raises(InputError, match=r"\(5, 6\)"):
        evaluator.process([{"image_id": 1}], [{"instances": instances(size=(5, 6))}])
    with pytest.raises(InputError, match="instances or sem_seg"):
        evaluator.process([{"image_id": 1}], [{"proposals": None}])
    with pytest.raises(InputError, match=r"0\.\.1"):
        PolypEvaluator(name, score_threshold=50)
    with pytest.raises(InputError, match="polyp_nowhere"):
        PolypEvaluator("polyp_nowhere")


def test_image_ids_must_be_unique():
    item = {"image_id": 3, "file_name": "a.jpg", "height": H, "width": W, "annotations": []}
    DatasetCatalog.register("polyp_test_twice", lambda: [item, dict(item)])
    try:
        with pytest.raises(InputError, match="occur twice: 3"):
            PolypEvaluator("polyp_test_twice")
    finally:
        DatasetCatalog.remove("polyp_test_twice")


def _rank(rank: int, port_file: str, out: str) -> None:
    """Rank 0 sees images 1 and 2, rank 1 sees 2 (padding) and 3."""
    torch.set_num_threads(1)
    dicts = dicts_of({1: [LEFT], 2: [RIGHT], 3: []})
    DatasetCatalog.register("polyp_test_ranks", lambda: dicts)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{port_file}", rank=rank, world_size=2
    )
    comm.create_local_process_group(2)
    evaluator = PolypEvaluator("polyp_test_ranks")
    for image_id in ((1, 2), (2, 3))[rank]:
        evaluator.process([{"image_id": image_id}], [{"instances": instances((0.9, LEFT))}])
    result = evaluator.evaluate()
    with open(f"{out}{rank}.json", "w") as file:
        json.dump(result, file)
    torch.distributed.destroy_process_group()


def test_two_processes_are_gathered(register, tmp_path):
    # Forked: a spawned process would import torch and Detectron2 anew, which is slow.
    args = (str(tmp_path / "rendezvous"), str(tmp_path / "result"))
    mp.start_processes(_rank, args=args, nprocs=2, start_method="fork")
    results = json.loads((tmp_path / "result0.json").read_text())
    assert results["polyp"] == pytest.approx(
        {
            "Dice": 0.5,
            "IoU": 0.5,
            "recall": 0.5,
            "specificity": 0,
            "Dice_all": 1 / 3,
            "fp_per_image": 2 / 3,
        }
    )
    assert json.loads((tmp_path / "result1.json").read_text()) == {}
    alone = evaluate_all(
        register({1: [LEFT], 2: [RIGHT], 3: []}), {i: [(0.9, LEFT)] for i in (1, 2, 3)}
    )
    assert results["polyp_protocol"] == alone["polyp_protocol"]


def test_protocol_is_of_all_instances_on_images_with_polyps(register):
    """By hand, of 24 pixels: what a polyp of 4 pixels gets from maps of three levels."""
    name = register({1: [LEFT], 2: []})
    # Stretched, RIGHT is 255 and LEFT 51. Thresholds: 1 takes all, 51 LEFT and RIGHT, 204 RIGHT.
    predictions = {1: [(0.1, LEFT), (0.5, RIGHT)], 2: [(0.9, LEFT)]}
    figures = evaluate_all(name, predictions)["polyp_protocol"]
    dice = (1 * 8 / 28 + 51 * 8 / 12 + 204 * 0) / 256
    iou = (1 * 4 / 24 + 51 * 4 / 8 + 204 * 0) / 256
    assert figures["mDice"] == pytest.approx(dice, abs=1e-6)
    assert figures["mIoU"] == pytest.approx(iou, abs=1e-6)
    assert figures["maxDice"] == pytest.approx(2 / 3)
    assert figures["maxIoU"] == 0.5
    assert figures["MAE"] == pytest.approx((4 * 0.8 + 4 * 1) / 24)


def test_protocol_can_be_switched_off_and_needs_polyps(register):
    predictions = {1: [(0.9, LEFT)]}
    assert set(evaluate_all(register({1: [LEFT]}), predictions, protocol=False)) == {"polyp"}
    assert set(evaluate_all(register({1: []}), predictions)) == {"polyp"}
    assert set(evaluate_all(register({1: [LEFT]}), predictions)) == {"polyp", "polyp_protocol"}


def test_without_the_library_the_figures_at_the_threshold_come_still(
    register, caplog, monkeypatch, tmp_path
):
    monkeypatch.delitem(sys.modules, "inspire_d2.evaluation.polyp_protocol", raising=False)
    monkeypatch.setitem(sys.modules, "py_sod_metrics", None)
    with caplog.at_level("WARNING"):
        results = evaluate_all(register({1: [LEFT]}), {1: [(0.9, LEFT)]}, output_dir=str(tmp_path))
    assert set(results) == {"polyp"} and results["polyp"]["Dice"] == 1
    assert len(caplog.records) == 1
    assert "pip install --no-deps pysodmetrics" in caplog.text
    assert json.loads((tmp_path / "polyp_table.json").read_text())["protocol"] is None
