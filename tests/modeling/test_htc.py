"""HTC's pieces against Detectron2's Cascade and against plain recomputations."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
)
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import BitMasks, Boxes, Instances, pairwise_iou
from detectron2.utils.events import EventStorage

from inspire_d2.errors import InputError
from inspire_d2.modeling import FusedSemanticBranch, HTCMaskHead, HTCROIHeads

CHANNELS, CLASSES, SIZE, STUFF = 8, 3, (64, 64), 4
LEVELS = {"p2": 4, "p3": 8, "p4": 16}
IOUS, WEIGHTS = (0.5, 0.6, 0.7), (1.0, 0.5, 0.25)


def pooler(resolution: int, levels: dict[str, int] = LEVELS) -> ROIPooler:
    scales = [1 / stride for stride in levels.values()]
    return ROIPooler(resolution, scales, sampling_ratio=0, pooler_type="ROIAlignV2")


def cascade_arguments() -> dict[str, Any]:
    return {
        "num_classes": CLASSES,
        "batch_size_per_image": 32,
        "positive_fraction": 0.25,
        "box_in_features": list(LEVELS),
        "box_pooler": pooler(7),
        "box_heads": [
            FastRCNNConvFCHead(
                ShapeSpec(channels=CHANNELS, height=7, width=7), conv_dims=[], fc_dims=[16]
            )
            for _ in IOUS
        ],
        "box_predictors": [
            FastRCNNOutputLayers(
                ShapeSpec(channels=16),
                box2box_transform=Box2BoxTransform(weights=(w, w, w / 2, w / 2)),
                num_classes=CLASSES,
                cls_agnostic_bbox_reg=True,
                test_score_thresh=0.05,
            )
            for w in (10, 20, 30)
        ],
        "proposal_matchers": [
            Matcher([iou], [0, 1], allow_low_quality_matches=False) for iou in IOUS
        ],
    }


def make_heads(*, masks: bool = True, semantic: bool = False, **options: Any) -> HTCROIHeads:
    torch.manual_seed(0)
    arguments = cascade_arguments() | options
    if masks:
        shape = ShapeSpec(channels=CHANNELS, height=14, width=14)
        arguments["mask_in_features"] = list(LEVELS)
        arguments["mask_pooler"] = pooler(14)
        arguments["mask_heads"] = [
            HTCMaskHead(
                shape, num_classes=CLASSES, conv_dims=[CHANNELS] * 3, takes_previous=stage > 0
            )
            for stage in range(3)
        ]
    if semantic:
        arguments["semantic_branch"] = FusedSemanticBranch(
            in_features=list(LEVELS), fused_feature="p3", channels=CHANNELS, num_classes=STUFF
        )
        arguments["semantic_pooler"] = pooler(14, {"p3": 8})
    heads = HTCROIHeads(**arguments)
    for module in heads.modules():  # predictors that begin near 0 would hide mistakes
        if isinstance(module, FastRCNNOutputLayers):
            torch.nn.init.normal_(module.cls_score.weight, std=0.5)
            torch.nn.init.normal_(module.bbox_pred.weight, std=0.3)
        elif isinstance(module, HTCMaskHead):
            torch.nn.init.normal_(module.predictor.weight, std=0.5)
    return heads


def make_features(images: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        name: torch.randn(images, CHANNELS, SIZE[0] // stride, SIZE[1] // stride)
        for name, stride in LEVELS.items()
    }


OBJECTS = torch.tensor([[4.0, 4, 30, 40], [20, 10, 60, 50], [2, 40, 20, 60]])


def make_targets(counts: tuple[int, ...] = (3, 1)) -> list[Instances]:
    targets = []
    for count in counts:
        target = Instances(SIZE)
        target.gt_boxes = Boxes(OBJECTS[:count].clone())
        target.gt_classes = torch.arange(count)
        masks = torch.zeros(count, *SIZE, dtype=torch.bool)
        for mask, box in zip(masks, OBJECTS.int().tolist(), strict=False):
            mask[box[1] : (box[1] + box[3]) // 2, box[0] : box[2]] = True
        target.gt_masks = BitMasks(masks)
        targets.append(target)
    return targets


def make_proposals(images: int = 2, count: int = 20) -> list[Instances]:
    torch.manual_seed(2)
    proposals = []
    for _ in range(images):
        boxes = OBJECTS.repeat(-(-count // 3), 1)[:count] + 4 * torch.randn(count, 4)
        one = Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(count))
        one.proposal_boxes.clip(SIZE)
        proposals.append(one)
    return proposals


def train(heads: torch.nn.Module, **options: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    with EventStorage():
        return heads.train()(None, make_features(), make_proposals(), make_targets(), **options)[1]


def predict(heads: torch.nn.Module, features: dict | None = None) -> list[Instances]:
    with torch.no_grad():
        return heads.eval()(None, features or make_features(), make_proposals())[0]


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


def test_semantic_branch_needs_maps() -> None:
    with pytest.raises(InputError, match="htc_without_semantic"):
        train(make_heads(semantic=True))


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
