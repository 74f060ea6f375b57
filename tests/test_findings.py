"""What was found, as instances and as masks."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from inspire_d2.findings import as_instances, masks_of


def test_maps_and_boxes_become_masks() -> None:
    probability = np.zeros((20, 30), np.float32)
    probability[2:10, 3:9] = 0.9
    probability[12:14, 20:22] = 0.9  # too small to be one
    instances = as_instances(probability, 0.5)
    assert instances.pred_boxes.tensor.tolist() == [[3, 2, 9, 10]]
    assert instances.scores.tolist() == pytest.approx([0.9])
    assert masks_of(instances, 0.5)[0, 2:10, 3:9].all()
    assert masks_of(instances, 0.5).sum() == 48
    boxes = Instances((20, 30))
    boxes.pred_boxes = Boxes(torch.tensor([[3.2, 1.9, 9.4, 10.1], [0, 0, 5, 5]]))
    boxes.scores = torch.tensor([0.9, 0.3])
    assert masks_of(boxes, 0.5).sum() == 48
    assert len(masks_of(boxes, 0.2)) == 2
    assert len(as_instances(np.zeros((20, 30), np.float32), 0.5)) == 0
