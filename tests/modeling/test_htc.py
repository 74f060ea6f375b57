"""HTC's pieces against Detectron2's Cascade and against plain recomputations."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
)
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import ImageList, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from torch import nn

from inspire_d2.modeling import HTCROIHeads, HybridTaskCascade

from .htc_helpers import (
    IOUS,
    LEVELS,
    SIZE,
    STUFF,
    WEIGHTS,
    cascade_arguments,
    make_features,
    make_heads,
    make_proposals,
    make_targets,
    pooler,
    predict,
    train,
)


def test_without_masks_and_semantics_it_is_cascade() -> None:
    ours = make_heads(masks=False, stage_loss_weights=(1, 1, 1))
    theirs = CascadeROIHeads(**cascade_arguments())
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(train(ours), train(theirs))
    for mine, other in zip(predict(ours), predict(theirs), strict=True):
        assert len(mine) > 0 and not mine.has("pred_masks")
        torch.testing.assert_close(mine.pred_boxes.tensor, other.pred_boxes.tensor)
        torch.testing.assert_close(mine.scores, other.scores)
        assert torch.equal(mine.pred_classes, other.pred_classes)


def test_stage_weights_multiply_cascades_losses() -> None:
    ours, theirs = make_heads(masks=False), CascadeROIHeads(**cascade_arguments())
    theirs.load_state_dict(ours.state_dict())
    expected = {k: v * WEIGHTS[int(k[-1])] for k, v in train(theirs).items()}
    torch.testing.assert_close(train(ours), expected)


def by_hand(heads: HTCROIHeads, stage: int, x: torch.Tensor) -> torch.Tensor:
    """Compute a stage's mask logits by plain functions from the weights by name."""
    weights = heads.state_dict()

    def apply(name: str, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.conv2d(x, kernel, bias, padding=padding)

    previous = None
    for k in range(stage + 1):
        y = x if previous is None else x + apply(f"mask_head.{k}.flow", previous).relu()
        for layer in (1, 2):
            y = apply(f"mask_head.{k}.mask_fcn{layer}", y, padding=1).relu()
        previous = y
    name = f"mask_head.{stage}"
    y = F.conv_transpose2d(
        previous, weights[f"{name}.deconv.weight"], weights[f"{name}.deconv.bias"], stride=2
    )
    return apply(f"{name}.predictor", y.relu())


def test_masks_train_on_the_boxes_their_stage_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interleaved execution and information flow, followed from what each box stage put out."""
    heads = make_heads()
    refined, seen = [], []
    for predictor in heads.box_predictor:
        original = predictor.predict_boxes
        monkeypatch.setattr(
            predictor, "predict_boxes", lambda *a, o=original: refined.append(o(*a)) or refined[-1]
        )
    module = "inspire_d2.modeling.htc.mask_rcnn_loss"

    def keep(logits: torch.Tensor, instances: list[Instances], period: int) -> torch.Tensor:
        seen.append((logits, instances))
        return mask_rcnn_loss(logits, instances, period)

    monkeypatch.setattr(module, keep)
    losses = train(heads)
    assert len(refined) == len(seen) == 3
    targets, features = make_targets(), list(make_features().values())
    for stage, (boxes, (logits, instances)) in enumerate(zip(refined, seen, strict=True)):
        for box, one, target in zip(boxes, instances, targets, strict=True):
            allowed = torch.cat([box.detach().clamp(0, 64), target.gt_boxes.tensor])
            iou = pairwise_iou(one.proposal_boxes, target.gt_boxes)
            assert len(one) >= len(target)  # the ground truth at least
            assert len(one) <= 32 * 0.25
            assert (iou.max(dim=1).values >= IOUS[stage]).all()
            assert torch.equal(one.gt_classes, target.gt_classes[iou.argmax(dim=1)])
            distance = (one.proposal_boxes.tensor[:, None] - allowed).abs().amax(dim=2)
            assert distance.amin(dim=1).max() < 1e-4
        x = pooler(14)(features, [one.proposal_boxes for one in instances])
        torch.testing.assert_close(logits, by_hand(heads, stage, x), atol=1e-4, rtol=1e-4)
        # The loss: binary cross-entropy of the true class's mask, cut out of the real one.
        wanted = torch.cat(
            [i.gt_masks.crop_and_resize(i.proposal_boxes.tensor, 28) for i in instances]
        ).float()
        classes = torch.cat([one.gt_classes for one in instances])
        chosen = logits[torch.arange(len(classes)), classes]
        expected = F.binary_cross_entropy(chosen.sigmoid(), wanted) * WEIGHTS[stage]
        torch.testing.assert_close(losses[f"loss_mask_stage{stage}"], expected)


def test_masks_are_averaged_at_test() -> None:
    heads = make_heads()
    features = make_features()
    instances = predict(heads)
    x = pooler(14)(list(features.values()), [one.pred_boxes for one in instances])
    classes = torch.cat([one.pred_classes for one in instances])
    rows = torch.arange(len(classes))
    expected = sum(by_hand(heads, k, x)[rows, classes].sigmoid() for k in range(3)) / 3
    torch.testing.assert_close(
        torch.cat([one.pred_masks for one in instances])[:, 0], expected, atol=1e-5, rtol=1e-4
    )
    with torch.no_grad():
        again = heads.forward_with_given_boxes(features, instances)
    torch.testing.assert_close(torch.cat([one.pred_masks for one in again])[:, 0], expected)


def test_every_parameter_learns() -> None:
    heads = make_heads(semantic=True)
    labels = torch.randint(STUFF, (2, *SIZE))
    losses = train(heads, semantic_targets=labels)
    assert len(losses) == 10  # three stages of class, box and mask; semantic
    sum(losses.values()).backward()
    for name, parameter in heads.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("counts", [(0, 0), (2, 0)])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_images_without_objects_train(counts: tuple[int, int], bfloat16: bool) -> None:
    heads = make_heads(semantic=True).train()
    labels = torch.zeros(2, *SIZE, dtype=torch.long)
    with EventStorage(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        _, losses = heads(
            None, make_features(), make_proposals(), make_targets(counts), semantic_targets=labels
        )
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None for p in heads.parameters())


def test_no_predictions_have_no_masks() -> None:
    heads = make_heads(semantic=True).eval()
    for predictor in heads.box_predictor:
        predictor.test_score_thresh = 1.1
    for one in predict(heads):
        assert len(one) == 0 and one.pred_masks.shape == (0, 1, 28, 28)
    empty = [p[:0] for p in make_proposals()]
    with torch.no_grad():
        instances, _ = heads(None, make_features(), empty)
    assert [len(one) for one in instances] == [0, 0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stage_loss_weights": (1.0,)}, "1 stage_loss_weights for 3 stages"),
        ({"semantic_pooler": pooler(14, {"p3": 8})}, "go together"),
        ({"mask_in_features": list(LEVELS), "mask_pooler": pooler(14)}, "0 mask_heads for 3"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_heads(masks=False, **options)


class Backbone(nn.Module):
    """Features of chance; the images' size alone counts."""

    size_divisibility, padding_constraints = 0, {}

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return features of as many images."""
        return make_features(len(images))


class Proposals(nn.Module):
    """Proposals of chance, without a loss."""

    def forward(self, images: ImageList, *_: Any) -> tuple[list[Instances], dict]:
        """Return proposals for the images."""
        return make_proposals(len(images)), {}


def make_model(**options: Any) -> HybridTaskCascade:
    parts = {
        "backbone": Backbone(),
        "proposal_generator": Proposals(),
        "roi_heads": make_heads(),
        "pixel_mean": [0.0] * 3,
        "pixel_std": [1.0] * 3,
        "input_format": "BGR",
    }
    return HybridTaskCascade(**parts | options)


@pytest.mark.parametrize("period", [0, 2])
def test_training_is_drawn_every_so_many_iterations(period: int) -> None:
    model = make_model(vis_period=period).train()
    batch = [{"image": torch.zeros(3, *SIZE), "instances": one} for one in make_targets()]
    drawn = []
    with EventStorage() as storage:
        for iteration in range(4):
            storage.iter = iteration
            model(batch)
            drawn.append("Left: GT bounding boxes" in str(storage._vis_data))
            storage.clear_images()
    assert drawn == [bool(period), False, bool(period), False]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"proposal_generator": None}, "needs a proposal_generator"),
        ({"roi_heads": nn.Linear(1, 1)}, "roi_heads is Linear: .* takes HTCROIHeads"),
    ],
)
def test_parts_that_do_not_fit(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_model(**options)
