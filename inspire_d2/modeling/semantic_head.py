"""Segmentation heads: Semantic FPN's, for few and rare classes, and a U-Net's."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import nn

from .unet import convolutions

__all__ = ["SemanticHead", "UNetHead"]


class SemanticHead(SemSegFPNHead):
    """Detectron2's head with a loss to choose, and a predictor that begins near 0.

    Detectron2 draws the predictor's weights with a variance of 2 / classes, which for two classes
    makes first logits of about +-10, and a rate at which the rest learns hardly moves weights that
    large.
    """

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        loss: nn.Module,
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Build the head; arguments not named here are SemSegFPNHead's.

        Args:
            loss: maps logits (N, K, H, W) and labels (N, H, W) to named losses; has an
                ``ignore_value``.
            num_classes: K; None takes the loss's ``num_channels``.
        """
        # By its name: as the first of the arguments, Detectron2 would take a mapping for a config.
        super().__init__(
            input_shape=input_shape,
            num_classes=num_classes or loss.num_channels,
            ignore_value=loss.ignore_value,
            **kwargs,
        )
        self.loss = loss
        _begin_near_zero(self.predictor)

    def losses(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare logits (N, K, h, w) at the common stride with labels (N, H, W)."""
        losses = self.loss(_resize(predictions, self.common_stride), targets)
        return {name: value * self.loss_weight for name, value in losses.items()}


class UNetHead(nn.Module):
    """A 1x1 convolution on a decoder's finest map, and, supervised deeply, on coarser ones too.

    Where the decoder is a pyramid, whose last convolutions no norm and ReLU follow, ``num_convs``
    gives each map the 3x3 convolutions that a level of a plain U-Net's decoder ends with.

    The loss of each map is half of that of the next finer one; the weights add up to 1. Coarser
    maps are up-sampled to the labels, and not used but in training.

    Source: deep supervision as in nnU-Net (Isensee et al., Nature Methods 2021).
    """

    def __init__(
        self,
        features: Sequence[str],
        channels: int | Sequence[int] | Mapping[str, int],
        *,
        loss: nn.Module,
        num_classes: int | None = None,
        num_convs: int = 0,
        norm: str = "GN",
    ) -> None:
        """Build the head.

        Args:
            features: "p0" or whatever is finest, then those to supervise besides: ("p0", "p1").
            channels: of each feature by name, of each level from p0 on, or of all.
            loss: as SemanticHead's.
            num_classes: K; None takes the loss's ``num_channels``.
            num_convs: 3x3 convolutions with norm and ReLU before each 1x1 one.
            norm: theirs, as UNetEncoder's.

        Raises:
            ValueError: no features, not from fine to coarse, or one without ``channels``;
                ``num_convs`` below 0.
        """
        super().__init__()
        if num_convs < 0:
            raise ValueError(f"num_convs must be 0 or more, got {num_convs}.")
        # FPN's names: p<level> has a stride of 2^level.
        levels = [int(name[1:]) for name in features]
        if not levels or levels != sorted(set(levels)):
            raise ValueError(f"features must be named from fine to coarse, got {list(features)}.")
        self.features = dict(zip(features, levels, strict=True))
        self.loss, self.ignore_value = loss, loss.ignore_value
        for name, level in self.features.items():
            try:
                key = name if isinstance(channels, Mapping) else level
                before = channels if isinstance(channels, int) else channels[key]
            except LookupError:
                raise ValueError(
                    f"channels={channels} says nothing of the feature {name}."
                ) from None
            convs = convolutions(before, before, norm, num_convs)
            self.add_module(f"convs_{name}", nn.Sequential(*convs))
            predictor = nn.Conv2d(before, num_classes or loss.num_channels, kernel_size=1)
            _begin_near_zero(predictor)
            self.add_module(f"predictor_{name}", predictor)

    def forward(
        self, features: dict[str, torch.Tensor], targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Return (None, losses) in training, and (logits (N, K, H, W), {}) else."""
        if not self.training:
            finest = next(iter(self.features))
            return self._logits(finest, features), {}
        losses: dict[str, torch.Tensor] = {}
        total = sum(2.0**-index for index in range(len(self.features)))
        for index, name in enumerate(self.features):
            for kind, value in self.loss(self._logits(name, features), targets).items():
                losses[kind] = losses.get(kind, 0.0) + value * (2.0**-index / total)
        return None, losses

    def _logits(self, name: str, features: dict[str, torch.Tensor]) -> torch.Tensor:
        x = getattr(self, f"convs_{name}")(features[name])
        logits = getattr(self, f"predictor_{name}")(x)
        return _resize(logits, 2 ** self.features[name])


def _begin_near_zero(predictor: nn.Module) -> None:
    nn.init.normal_(predictor.weight, std=0.01)
    nn.init.zeros_(predictor.bias)


def _resize(logits: torch.Tensor, factor: int) -> torch.Tensor:
    """Bring logits to a resolution that many times theirs."""
    if factor == 1:
        return logits
    return F.interpolate(logits.float(), scale_factor=factor, mode="bilinear", align_corners=False)
