"""Spatial-semantic back augmentation (SSBA): the pyramid fed back into the bottom-up.

Source: SSBA of the INSPIRE paper (doi 10.1016/j.cmpb.2025.108705).
"""

import torch
from torch import nn

from .isa import AdaptiveFusion
from .ise import FeatureEnhancement

__all__ = ["BackAugmentation"]


class BackAugmentation(nn.Module):
    """C~_j = F_af(F_fe(P_j, F_ad(P_j)), C_j): equal to C_j at initialisation."""

    def __init__(self, pyramid_channels: int, feature_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.enhancement = FeatureEnhancement(pyramid_channels, feature_channels, hidden_channels)
        self.fusion = AdaptiveFusion(feature_channels)

    def forward(self, pyramid: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        """Feed P_j (N, d, H, W) back into C_j (N, c_j, H, W): C~_j of C_j's shape."""
        return self.fusion(self.enhancement(pyramid), feature)
