"""Sheets of predictions: size, choice of images, and what is drawn where."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import Instances

from inspire_d2.errors import InputError
from inspire_d2.visualization import prediction_grid
from inspire_d2.visualization.grid import TRUTH_COLOUR, spread

H, W = 60, 80
POLYP = np.zeros((H, W), bool)
POLYP[20:40, 30:50] = True


@pytest.fixture
def scene(tmp_path):
    """Six grey images with one polyp each; the prediction of image k is k * 4 pixels off."""
    dicts, predictions = [], {}
    for k in range(6):
        path = tmp_path / f"image_{k}.png"
        cv2.imwrite(str(path), np.full((H, W, 3), 128, np.uint8))
        rle = mask_util.encode(np.asfortranarray(POLYP.astype(np.uint8)))
        dicts.append(
            {
                "image_id": k,
                "file_name": str(path),
                "height": H,
                "width": W,
                "annotations": [{"segmentation": rle}],
            }
        )
        predictions[k] = instances((0.9, np.roll(POLYP, 4 * k, axis=1)))
    return dicts, predictions


def instances(*scored) -> Instances:
    result = Instances((H, W))
    result.scores = torch.tensor([score for score, _ in scored])
    result.pred_masks = torch.tensor(np.array([m for _, m in scored]).reshape(-1, H, W))
    return result


def count(image: np.ndarray, rgb: tuple[int, int, int]) -> int:
    return np.count_nonzero((image == np.array(rgb[::-1])).all(axis=2))


def test_spread_takes_both_ends():
    assert spread(3, 5) == [0, 1, 2]
    assert spread(101, 3) == [0, 50, 100]
    assert spread(9, 1) == [0]
    assert len(set(spread(7, 6))) == 6


def test_worst_and_best_are_shown_in_order(scene, tmp_path):
    shown = prediction_grid(*scene, tmp_path / "grid.png", num_images=3)
    assert shown[0] == 5
    assert shown[-1] == 0
    assert len(shown) == 3


def test_sheet_holds_truth_on_the_left_and_predictions_on_the_right(scene, tmp_path):
    dicts, predictions = scene
    output = tmp_path / "sheets" / "grid.png"
    prediction_grid(dicts[:1], predictions, output, tile_width=320)
    image = cv2.imread(str(output))
    tile_height = 240
    assert image.shape[1] == 14 + 320 + 4 + 320 + 14
    assert image.shape[0] > tile_height + 40
    left, right = image[-tile_height - 14 : -14, 14:334], image[-tile_height - 14 : -14, 338:658]
    # The outline of 20 x 20 pixels, four times enlarged and 2 to 3 pixels thick.
    assert 4 * 75 * 2 <= count(left, TRUTH_COLOUR) <= 4 * 85 * 4
    assert count(right, TRUTH_COLOUR) == 0
    assert (left[160 - 70 : 160 - 60, 160] == 128).all(), "the left tile holds the image"
    centre = right[80:160, 120:200].astype(int)
    orange = centre[..., 2] - centre[..., 0] > 40
    assert orange.mean() > 0.7
    outside = right[170:230, 10:100]
    assert (np.abs(outside.astype(int) - 128) <= 2).all()


def test_names_that_are_no_formulae(scene, tmp_path):
    dicts, predictions = scene
    odd = tmp_path / "a$1_$2^.png"
    (tmp_path / "image_0.png").rename(odd)
    dicts[0]["file_name"] = str(odd)
    prediction_grid(dicts[:1], predictions, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").exists()


def test_low_scores_are_not_drawn(scene, tmp_path):
    dicts, _ = scene
    output = tmp_path / "grid.png"
    prediction_grid(dicts[:1], {0: instances((0.4, POLYP))}, output, score_threshold=0.5)
    right = cv2.imread(str(output))[-240:-20, 340:650]
    assert (right == 128).all()


def test_negatives_and_few_images(scene, tmp_path):
    dicts, predictions = scene
    dicts[1]["annotations"] = []
    predictions[1] = instances()
    shown = prediction_grid(dicts[:2], predictions, tmp_path / "grid.png", num_images=9)
    assert sorted(shown) == [0, 1]


def test_wrong_input_is_named(scene, tmp_path):
    dicts, predictions = scene
    output = tmp_path / "grid.png"
    with pytest.raises(InputError, match="none of the images"):
        prediction_grid(dicts, {}, output)
    with pytest.raises(InputError, match=r"image_0\.png has no masks"):
        prediction_grid(dicts, {0: Instances((H, W), scores=torch.ones(1))}, output)
    with pytest.raises(InputError, match="num_images"):
        prediction_grid(dicts, predictions, output, num_images=0)
    dicts[0]["file_name"] = str(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"gone\.png"):
        prediction_grid(dicts[:1], predictions, output)
    assert not output.exists()
