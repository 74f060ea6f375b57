"""HTC's semantic branch: what it fuses, its loss, and how it joins the heads."""

import pytest
import torch
import torch.nn.functional as F

from inspire_d2.errors import InputError

from .htc_helpers import STUFF, make_features, make_heads, make_proposals, pooler, train


def test_semantic_features_join_those_of_rois() -> None:
    heads = make_heads(semantic=True).eval()
    features = make_features()
    branch = heads.semantic_branch
    with torch.no_grad():
        _, embedding = branch(features)
        levels, boxes = list(features.values()), [p.proposal_boxes for p in make_proposals()]
        read = pooler(14, {"p3": 8})([embedding], boxes)
        for own, resolution in ((heads.box_pooler, 7), (heads.mask_pooler, 14)):
            expected = pooler(resolution)(levels, boxes)
            step = 14 // resolution
            # the mean over blocks of step x step bins
            blocks = read.unfold(2, step, step).unfold(3, step, step).mean(dim=(4, 5))
            torch.testing.assert_close(own([*levels, embedding], boxes), expected + blocks)


def test_semantic_branch_fuses_all_levels() -> None:
    heads = make_heads(semantic=True)
    branch, weights = heads.semantic_branch, heads.semantic_branch.state_dict()
    features = make_features()

    def apply(name: str, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    fine, same, coarse = (apply(f"lateral.{n}", x).relu() for n, x in features.items())
    # half the size at pixel centres is the mean of 2 x 2
    fine = F.avg_pool2d(fine, 2)
    coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear")
    x = fine + same + coarse
    for layer in range(4):
        x = apply(f"convs.{layer}", x, padding=1).relu()
    logits, embedding = branch(features)
    torch.testing.assert_close(logits, apply("predictor", x))
    torch.testing.assert_close(embedding, apply("embedding", x).relu())


def test_semantic_loss_is_a_fifth_of_cross_entropy() -> None:
    branch = make_heads(semantic=True).semantic_branch
    torch.manual_seed(4)
    logits = torch.randn(2, STUFF, 8, 8)
    cells = torch.randint(STUFF, (2, 8, 8))
    cells[0, :4] = 255
    labels = cells.repeat_interleave(8, 1).repeat_interleave(8, 2)
    expected = 0.2 * F.cross_entropy(logits, cells, ignore_index=255)
    torch.testing.assert_close(branch.losses(logits, labels)["loss_sem_seg"], expected)
    nothing = torch.full_like(labels, 255)
    assert branch.losses(logits, nothing)["loss_sem_seg"] == 0


def test_semantic_branch_needs_maps() -> None:
    with pytest.raises(InputError, match="htc_without_semantic"):
        train(make_heads(semantic=True))
