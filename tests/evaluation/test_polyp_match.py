"""Which prediction finds which polyp."""

import numpy as np

from inspire_d2.evaluation.polyp_match import match_polyps

from .polyp_helpers import LEFT, RIGHT, TALL, H, W


def test_better_score_chooses_first():
    # The first prediction (IoU 0.5 with LEFT) takes the polyp although the second fits exactly.
    assert match_polyps(np.stack([TALL, LEFT]), LEFT[None]) == [0, None]
    assert match_polyps(np.stack([LEFT, TALL]), LEFT[None]) == [0, None]
    assert match_polyps(np.stack([RIGHT, LEFT]), np.stack([LEFT, RIGHT])) == [1, 0]
    assert match_polyps(LEFT[None], TALL[None], min_iou=0.51) == [None]
    assert match_polyps(np.zeros((0, H, W), bool), LEFT[None]) == []
