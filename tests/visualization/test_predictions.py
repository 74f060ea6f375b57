"""Predictions come back from Detectron2's results file as they were written."""

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest

from inspire_d2.errors import InputError
from inspire_d2.visualization import read_predictions

DICTS = [{"image_id": k, "height": 6, "width": 8} for k in (3, 4)]
MASK = np.zeros((6, 8), np.uint8)
MASK[1:4, 2:7] = 1


def result(image_id: int) -> dict[str, object]:
    rle = mask_util.encode(np.asfortranarray(MASK))
    rle["counts"] = rle["counts"].decode()
    bbox = [2.0, 1.0, 5.0, 3.0]
    return {"image_id": image_id, "bbox": bbox, "score": 0.75, "segmentation": rle}


def test_predictions_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([result(3)]))
    predictions = read_predictions(path, DICTS)
    assert set(predictions) == {3, 4}
    assert predictions[3].pred_boxes.tensor.tolist() == [[2, 1, 7, 4]]
    assert predictions[3].scores.tolist() == [0.75]
    assert (predictions[3].pred_masks.numpy()[0] == MASK.astype(bool)).all()
    assert len(predictions[4]) == 0 and predictions[4].pred_masks.shape == (0, 6, 8)


def test_results_of_another_set_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([result(9)]))
    with pytest.raises(InputError, match="of another data set: image 9"):
        read_predictions(path, DICTS)
    path.write_text("[")
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(path, DICTS)
