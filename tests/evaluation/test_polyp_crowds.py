"""Crowds, which are left out: by hand on images of 4 x 6 pixels, and against clean images."""

import json

import numpy as np
import pytest
import torch

from inspire_d2.evaluation.polyp import PolypEvaluator
from inspire_d2.evaluation.polyp_tables import tabulate

from .polyp_helpers import LEFT, RIGHT, TALL, H, W, instances, mask, registering

WIDE = mask("......", "......", "..####", "..####")  # 8 pixels, of which RIGHT are half
ALMOST = mask("......", "..#...", "..####", "..####")  # 9 pixels, of which RIGHT are less


@pytest.fixture
def register():
    with registering() as add:
        yield add


def evaluate(name: str, outputs: dict, **options) -> dict[str, dict[str, float]]:
    evaluator = PolypEvaluator(name, distributed=False, **options)
    for image_id, output in outputs.items():
        evaluator.process([{"image_id": image_id}], [output])
    return evaluator.evaluate()


def found(*scored: tuple[float, np.ndarray]) -> dict:
    return {"instances": instances(*scored)}


def test_what_lies_on_a_crowd_does_not_count(register, tmp_path):
    crowds = {i: [RIGHT] for i in (1, 2, 3, 4)}
    name = register({1: [LEFT], 2: [LEFT], 3: [LEFT], 4: [], 5: []}, crowds=crowds)
    outputs = {
        1: found((0.9, LEFT), (0.8, RIGHT)),  # perfect, and the crowd
        2: found((0.9, LEFT | RIGHT)),  # perfect as well, what lies on the crowd taken off
        3: found((0.9, TALL), (0.8, WIDE)),  # 4 of 4 + 8; half of the second is crowd: no matter
        4: found((0.9, ALMOST)),  # less than half is: a false positive
        5: found((0.9, RIGHT)),  # no crowd here
    }
    metrics = evaluate(name, outputs, output_dir=str(tmp_path), protocol=False)["polyp"]
    assert metrics == pytest.approx(
        {
            "Dice": (1 + 1 + 2 / 3) / 3,
            "IoU": (1 + 1 + 1 / 2) / 3,
            "recall": 1,
            "specificity": 0,  # of image 5 alone
            "Dice_all": (1 + 1 + 2 / 3 + 0) / 4,  # without image 4
            "fp_per_image": 2 / 5,
        }
    )
    rows = json.loads((tmp_path / "polyp_per_image.json").read_text())
    assert [row.get("crowd_pixels") for row in rows] == [4, 4, 4, 4, None]
    assert [(row["num_pred"], row["false_positives"]) for row in rows] == [
        (1, 0), (1, 0), (1, 0), (1, 1), (1, 1)
    ]  # fmt: skip
    (line,) = tabulate(rows)
    assert (line["images"], line["positives"], line["negatives"]) == (5, 3, 1)


def test_images_of_crowds_alone(register):
    name = register({1: [], 2: []}, crowds={1: [LEFT], 2: [RIGHT]})
    outputs = {1: found((0.9, LEFT)), 2: found((0.9, LEFT))}
    assert evaluate(name, outputs) == {"polyp": {"fp_per_image": 0.5}}


def test_a_polyp_on_a_crowd_is_a_polyp(register):
    name = register({1: [LEFT]}, crowds={1: [TALL]})
    metrics = evaluate(name, {1: found((0.9, LEFT), (0.8, LEFT))})["polyp"]
    assert metrics["Dice"] == metrics["recall"] == metrics["fp_per_image"] == 1
    assert evaluate(name, {1: found()})["polyp"]["Dice"] == 0


def test_a_crowd_without_a_mask_is_nowhere(register):
    name = register({1: [LEFT]})
    evaluator = PolypEvaluator(name, distributed=False)
    evaluator._truth[1]["annotations"].append({"bbox": [0, 0, 6, 4], "iscrowd": 1})
    evaluator.process([{"image_id": 1}], [found((0.9, LEFT), (0.8, RIGHT))])
    assert evaluator.evaluate()["polyp"]["fp_per_image"] == 1


@pytest.mark.parametrize("kind", ["instances", "sem_seg"])
def test_figures_are_those_of_an_image_with_nothing_there(register, kind):
    """Detectors and segmenters, at the threshold and by the protocol: 32 x 48 pixels."""
    polyp, other = (np.kron(one, np.ones((8, 8))) > 0 for one in (LEFT, RIGHT))

    def output(place: np.ndarray) -> dict:
        if kind == "instances":
            return found_large((0.8, np.roll(polyp, 3, axis=1)), (0.9, place))
        probability = 0.1 + 0.6 * np.roll(polyp, 3, axis=1) + 0.85 * place
        foreground = torch.from_numpy(probability).clamp(0, 1)
        return {"sem_seg": torch.stack([1 - foreground, foreground]).clamp(min=1e-6).log()}

    def found_large(*scored: tuple[float, np.ndarray]) -> dict:
        return {"instances": instances(*scored, size=(8 * H, 8 * W))}

    nothing = np.zeros_like(other)
    expected = evaluate(register({1: [polyp]}), {1: output(nothing)})
    crowded = register({1: [polyp]}, crowds={1: [other]})
    results = evaluate(crowded, {1: output(other)})
    assert results["polyp_protocol"] == expected["polyp_protocol"]
    # An instance without a pixel is a false positive, were it not for the crowd.
    assert results["polyp"] == expected["polyp"] | {"fp_per_image": 0}
    assert 0.5 < results["polyp"]["Dice"] < 1
