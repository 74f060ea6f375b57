"""Masks from annotations of every form, and from a segmenter's maps."""

import numpy as np
import pytest
import torch

from inspire_d2.errors import InputError
from inspire_d2.evaluation.polyp import PolypEvaluator
from inspire_d2.evaluation.polyp_masks import annotation_masks, instance_map

from .polyp_helpers import LEFT, RIGHT, TALL, H, W, mask, registering, rle


@pytest.fixture
def register():
    with registering() as add:
        yield add


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


def test_map_of_instances_is_the_best_score_on_each_pixel():
    masks, scores = np.stack([LEFT, TALL, RIGHT]), np.array([0.9, 0.5, 0.2], np.float32)
    expected = [[0.9, 0.9, 0, 0, 0, 0], [0.9, 0.9, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0.2, 0.2]]
    expected.append(expected[2])
    np.testing.assert_allclose(instance_map(masks, scores), expected, rtol=1e-6)
    np.testing.assert_array_equal(instance_map(masks[:0], scores[:0]), np.zeros((H, W)))
