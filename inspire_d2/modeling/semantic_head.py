"""Semantic FPN's head for few and rare classes."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import nn

__all__ = ["SemanticHead", "soft_dice_loss"]


def soft_dice_loss(logits: torch.Tensor, target: torch.Tensor, ignore_value: int) -> torch.Tensor:
    """Return 1 - Dice of the foreground's probabilities, averaged over images and classes.

    logits (N, K, H, W), target (N, H, W) with 0 the background, which does not count. Sums are
    over an image; a class that is absent and not predicted has a Dice of 1.

    Source: V-Net (Milletari et al., 3DV 2016), without its squares, with 1 added to both sums.
    """
    valid = (target != ignore_value)[:, None]
    probability = logits.softmax(dim=1)[:, 1:] * valid
    label = torch.where(valid[:, 0], target, 0)
    truth = F.one_hot(label, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:] * valid
    both = (probability * truth).sum(dim=(2, 3))
    total = (probability + truth).sum(dim=(2, 3))
    return (1 - (2 * both + 1) / (total + 1)).mean()


class SemanticHead(SemSegFPNHead):
    """Detectron2's head with a predictor that begins near 0 and a soft Dice loss beside its own.

    Detectron2 draws the predictor's weights with a variance of 2 / classes, which for two classes
    makes first logits of about +-10, and a rate at which the rest learns hardly moves weights that
    large. Cross-entropy alone gives up small objects for the background; Dice does not.

    Takes SemSegFPNHead's arguments; with ``dice_weight`` 0 the Dice loss is left out.
    """

    def __init__(
        self, input_shape: dict[str, ShapeSpec], *, dice_weight: float = 1.0, **kwargs: Any
    ) -> None:
        # By its name: as the first of the arguments, Detectron2 would take a mapping for a config.
        super().__init__(input_shape=input_shape, **kwargs)
        self.dice_weight = dice_weight
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare logits (N, K, h, w) at the common stride with labels (N, H, W)."""
        losses = super().losses(predictions, targets)
        if self.dice_weight:
            logits = F.interpolate(
                predictions.float(),
                scale_factor=self.common_stride,
                mode="bilinear",
                align_corners=False,
            )
            dice = soft_dice_loss(logits, targets, self.ignore_value)
            losses["loss_dice"] = dice * self.dice_weight
        return losses
