"""Polyp metrics against values computed by hand, on images of 4 x 6 pixels."""

import json
import uuid

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from inspire_d2.errors import InputError
from inspire_d2.evaluation.polyp import PolypEvaluator, annotation_masks, match_polyps

H, W = 4, 6


def mask(*rows: str) -> np.ndarray:
    """Rows of '#' and '.' as a bool mask."""
    return np.array([[c == "#" for c in row] for row in rows])


LEFT = mask("##....", "##....", "......", "......")  # 4 pixels
TALL = mask("##....", "##....", "##....", "##....")  # 8 pixels, holds LEFT
RIGHT = mask("......", "......", "....##", "....##")  # 4 pixels


def rle(m: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(m.astype(np.uint8)))


@pytest.fixture
def register():
    """Register images given as {image_id: [masks]}; the names go at the end."""
    names = []

    def add(images: dict, segmentation=rle) -> str:
        name = f"polyp_test_{uuid.uuid4().hex}"
        dicts = [
            {
                "image_id": image_id,
                "file_name": f"{image_id}.jpg",
                "height": masks[0].shape[0] if masks else H,
                "width": masks[0].shape[1] if masks else W,
                "annotations": [{"segmentation": segmentation(m), "iscrowd": 0} for m in masks],
            }
            for image_id, masks in images.items()
        ]
        DatasetCatalog.register(name, lambda: dicts)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)


def instances(*scored: tuple[float, np.ndarray], size=(H, W)) -> Instances:
    result = Instances(size)
    result.scores = torch.tensor([s for s, _ in scored], dtype=torch.float32)
    masks = np.array([m for _, m in scored]).reshape(-1, *size)
    result.pred_masks = torch.from_numpy(masks.astype(bool))
    return result


def evaluate(name: str, predictions: dict, **options) -> dict[str, float]:
    evaluator = PolypEvaluator(name, distributed=False, **options)
    for image_id, scored in predictions.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances(*scored)}])
    return evaluator.evaluate()["polyp"]


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


def test_better_score_chooses_first():
    # The first prediction (IoU 0.5 with LEFT) takes the polyp although the second fits exactly.
    assert match_polyps(np.stack([TALL, LEFT]), LEFT[None]) == [0, None]
    assert match_polyps(np.stack([LEFT, TALL]), LEFT[None]) == [0, None]
    assert match_polyps(np.stack([RIGHT, LEFT]), np.stack([LEFT, RIGHT])) == [1, 0]
    assert match_polyps(LEFT[None], TALL[None], min_iou=0.51) == [None]
    assert match_polyps(np.zeros((0, H, W), bool), LEFT[None]) == []


@pytest.mark.parametrize("form", ["compressed", "text", "uncompressed", "polygon"])
def test_every_form_of_annotation_gives_the_same_mask(form):
    runs = [8, 2, 2, 2, 10]  # column by column: 8 off, rows 0-1 of column 2, 2 off, ... of column 3
    expected = mask("..##..", "..##..", "......", "......")
    segmentation = {
        "compressed": rle(expected),
        "text": {**rle(expected), "counts": rle(expected)["counts"].decode()},
        "uncompressed": {"size": [H, W], "counts": runs},
        "polygon": [[2, 0, 4, 0, 4, 2, 2, 2]],
    }[form]
    record = {
        "file_name": "a.jpg",
        "height": H,
        "width": W,
        "annotations": [{"segmentation": segmentation}],
    }
    np.testing.assert_array_equal(annotation_masks(record), expected[None])


def test_crowds_and_empty_masks_are_no_polyps(register):
    record = {
        "file_name": "a.jpg",
        "height": H,
        "width": W,
        "annotations": [
            {"segmentation": rle(LEFT), "iscrowd": 1},
            {"segmentation": rle(np.zeros((H, W), bool))},
        ],
    }
    assert annotation_masks(record).shape == (0, H, W)
    record["annotations"] = [{"bbox": [0, 0, 1, 1]}]
    with pytest.raises(InputError, match=r"a\.jpg has no segmentation"):
        annotation_masks(record)


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
    images = {1: [LEFT], 2: [RIGHT], 3: []}
    dicts = [
        {
            "image_id": i,
            "file_name": f"{i}.jpg",
            "height": H,
            "width": W,
            "annotations": [{"segmentation": rle(m)} for m in masks],
        }
        for i, masks in images.items()
    ]
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


def test_two_processes_are_gathered(tmp_path):
    # Forked: a spawned process would import torch and Detectron2 anew, which is slow.
    args = (str(tmp_path / "rendezvous"), str(tmp_path / "result"))
    mp.start_processes(_rank, args=args, nprocs=2, start_method="fork")
    metrics = json.loads((tmp_path / "result0.json").read_text())["polyp"]
    assert metrics == pytest.approx(
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


def semantic(*rows: str, scale: int = 8, margin: float = 1.0) -> torch.Tensor:
    """Logits (2, H, W) of a mask drawn with '#', each sign scale x scale pixels."""
    foreground = torch.from_numpy(np.kron(mask(*rows), np.ones((scale, scale))))
    return margin * torch.stack([-foreground, foreground]) - margin / 2 * torch.tensor(
        [[[-1.0]], [[1.0]]]
    )


def test_semantic_map_is_split_into_polyps(register):
    big = np.kron(LEFT, np.ones((8, 8))) > 0
    other = np.kron(RIGHT, np.ones((8, 8))) > 0
    name = register({1: [big, other], 2: [big], 3: []})
    evaluator = PolypEvaluator(name, distributed=False)
    # 1: both found. 2: found, and one too many. 3: nothing there, nothing predicted.
    drawn = {
        1: ("##....", "##....", "....##", "....##"),
        2: ("##....", "##....", "......", "....#."),
        3: ("......",) * 4,
    }
    for image_id, rows in drawn.items():
        if image_id == 3:  # an empty image is 4 x 6 in this register
            logits = semantic(*rows, scale=1)
        else:
            logits = semantic(*rows)
        evaluator.process([{"image_id": image_id}], [{"sem_seg": logits}])
    metrics = evaluator.evaluate()["polyp"]
    assert metrics["recall"] == 1
    assert metrics["fp_per_image"] == pytest.approx(1 / 3)
    assert metrics["specificity"] == 1
    # 1 is perfect; 2 predicts 5 squares of which 4 are right, of 4.
    assert metrics["Dice"] == pytest.approx((1 + 2 * 4 / (5 + 4)) / 2)


def test_semantic_specks_are_no_polyps(register):
    name = register({1: [np.zeros((32, 48), bool) | (np.arange(48) < 16)]})
    logits = torch.stack([torch.ones(32, 48), -torch.ones(32, 48)])
    logits[:, 2, 2:7] *= -1  # 5 pixels
    evaluator = PolypEvaluator(name, distributed=False)
    evaluator.process([{"image_id": 1}], [{"sem_seg": logits}])
    metrics = evaluator.evaluate()["polyp"]
    assert metrics["fp_per_image"] == 0
    assert metrics["Dice"] == 0


def test_semantic_map_of_three_classes_counts_all_but_the_background(register):
    big = np.kron(LEFT, np.ones((8, 8))) > 0
    name = register({1: [big]})
    # Two classes of 0.3 each outweigh a background of 0.4.
    probability = torch.zeros(3, 32, 48)
    probability[0] = 1 - 0.6 * torch.from_numpy(big)
    probability[1:] = 0.3 * torch.from_numpy(big)
    evaluator = PolypEvaluator(name, distributed=False)
    evaluator.process([{"image_id": 1}], [{"sem_seg": probability.clamp(min=1e-6).log()}])
    assert evaluator.evaluate()["polyp"]["Dice"] == 1


def test_semantic_map_of_another_size_is_refused(register):
    name = register({1: [LEFT]})
    evaluator = PolypEvaluator(name, distributed=False)
    with pytest.raises(InputError, match="the data set says"):
        evaluator.process([{"image_id": 1}], [{"sem_seg": torch.zeros(2, H + 1, W)}])
