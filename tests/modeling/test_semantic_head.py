"""The semantic head: its first logits, and its Dice loss against a computation by hand."""

import math

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from inspire_d2.modeling.semantic_head import SemanticHead, soft_dice_loss

from .helpers import image

IGNORE = 255


def head(**kwargs: float) -> SemanticHead:
    torch.manual_seed(0)
    shapes = {f"p{j}": ShapeSpec(channels=4, stride=2**j) for j in (2, 3)}
    return SemanticHead(
        shapes,
        num_classes=2,
        conv_dims=32,  # what GN divides into 32 groups
        common_stride=4,
        norm="GN",
        ignore_value=IGNORE,
        **kwargs,
    )


def features(batch: int = 2) -> dict[str, torch.Tensor]:
    return {f"p{j}": image(batch, 4, 64 >> j, 64 >> j, seed=j) for j in (2, 3)}


def by_hand(logits: np.ndarray, target: np.ndarray) -> float:
    """1 - Dice of every image and class, pixel by pixel, in Python floats."""
    losses = []
    for k in range(1, logits.shape[1]):
        for n in range(len(target)):
            both = predicted = true = 0.0
            for y, x in np.ndindex(target[n].shape):
                if target[n, y, x] == IGNORE:
                    continue
                exps = [math.exp(v) for v in logits[n, :, y, x]]
                p, t = exps[k] / sum(exps), float(target[n, y, x] == k)
                both, predicted, true = both + p * t, predicted + p, true + t
            losses.append(1 - (2 * both + 1) / (predicted + true + 1))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("classes", [2, 4])
def test_dice_is_the_one_by_hand(classes: int) -> None:
    logits = image(2, classes, 3, 5, seed=1, dtype=torch.float64)
    target = torch.randint(0, classes, (2, 3, 5), generator=torch.Generator().manual_seed(2))
    target[0, 0, :2] = IGNORE
    loss = soft_dice_loss(logits, target, IGNORE)
    assert float(loss) == pytest.approx(by_hand(logits.numpy(), target.numpy()), rel=1e-9)


def test_dice_of_a_perfect_and_of_an_opposite_prediction() -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[:, :4] = 1
    logits = 50.0 * torch.stack([target == 0, target == 1], dim=1)
    assert float(soft_dice_loss(logits, target, IGNORE)) == pytest.approx(0)
    assert float(soft_dice_loss(-logits, target, IGNORE)) == pytest.approx(1 - 1 / 65)


def test_dice_of_nothing_where_there_is_nothing_is_perfect() -> None:
    target = torch.zeros(2, 4, 4, dtype=torch.int64)
    logits = torch.tensor([50.0, -50.0]).view(1, 2, 1, 1).expand(2, 2, 4, 4)
    assert float(soft_dice_loss(logits, target, IGNORE)) == pytest.approx(0)
    target[:] = IGNORE
    assert float(soft_dice_loss(logits, target, IGNORE)) == pytest.approx(0)


def test_first_logits_are_near_zero() -> None:
    logits = head().layers(features())
    assert logits.abs().max() < 1


def test_losses_are_detectron2s_and_dice() -> None:
    target = torch.randint(0, 2, (2, 64, 64), generator=torch.Generator().manual_seed(2))
    module = head(dice_weight=0.5)
    theirs = SemSegFPNHead.losses(module, module.layers(features()), target)
    ours = module(features(), target)[1]
    assert set(ours) == {"loss_sem_seg", "loss_dice"}
    torch.testing.assert_close(ours["loss_sem_seg"], theirs["loss_sem_seg"])
    torch.testing.assert_close(head(dice_weight=1.0)(features(), target)[1]["loss_dice"],
                               2 * ours["loss_dice"])  # fmt: skip
    assert set(head(dice_weight=0)(features(), target)[1]) == {"loss_sem_seg"}
