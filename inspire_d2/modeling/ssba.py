"""Spatial-semantic back augmentation (SSBA): the pyramid fed back into the bottom-up.

Source: SSBA of the INSPIRE paper (doi 10.1016/j.cmpb.2025.108705).
"""

import torch
from torch import nn

from ..layout import as_channels_last, channels_last_pays
from .isa import AdaptiveFusion
from .ise import FeatureEnhancement
from .pixelwise import add_weighted, pixelwise_order, project

__all__ = ["BackAugmentation", "feedback_order"]


def feedback_order(feature: torch.Tensor) -> torch.Tensor:
    """Return C_j in the order in memory that suits SSBA and the stages that read its result."""
    if channels_last_pays(feature.device):
        return as_channels_last(feature)
    return pixelwise_order(feature)


class BackAugmentation(nn.Module):
    """C~_j = F_af(F_fe(P_j, F_ad(P_j)), C_j): equal to C_j at initialisation."""

    def __init__(self, pyramid_channels: int, feature_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.enhancement = FeatureEnhancement(pyramid_channels, feature_channels, hidden_channels)
        self.fusion = AdaptiveFusion(feature_channels)

    def forward(self, pyramid: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        """Feed P_j (N, d, H, W) back into C_j (N, c_j, H, W): C~_j of C_j's shape."""
        # The enhancement is W_o h; a product with W_o commutes with the embedding and with lambda,
        # so both act on the few channels of h.
        feature = feedback_order(feature)
        hidden = self.enhancement.hidden(pyramid)
        out = self.enhancement.output.weight.flatten(1)
        embed = self.fusion.embed_moving
        moving = project(embed.weight.flatten(1) @ out, hidden) + embed.bias[:, None, None]
        gate = self.fusion.gate(moving, self.fusion.embed_resident(feature)).to(feature.dtype)
        return add_weighted(project(out, hidden * gate, like=feature), 2 - gate, feature)
