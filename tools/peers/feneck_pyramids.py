"""PAFPN and BiFPN of the package feneck, which is optional, behind FPN's interface.

Source: feneck 0.0.1 (Apache-2.0, pure Python, nothing but torch needed), of PANet (CVPR 2018) and
EfficientDet (CVPR 2020). Of other homes of these two: mmdet needs a compiled mmcv, effdet builds a
BiFPN for one image size, ultralytics is AGPL, super-gradients pins numpy and torch of 2022.
"""

from collections.abc import Sequence

import torch
from detectron2.modeling import Backbone
from torch import nn

from .base import PeerPyramid

__all__ = ["BiFPN", "PathAggregationFPN"]

BIFPN_LAYERS = 3


class PathAggregationFPN(PeerPyramid):
    """FPN, then a second path from fine to coarse; no norms, as in Detectron2's FPN."""

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        top_block: nn.Module | None = None,
    ) -> None:
        from feneck import PAFPN

        super().__init__(bottom_up, in_features, out_channels, top_block)
        self.pyramid = PAFPN(self.in_channels, self.strides, out_channels)

    def build_pyramid(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map features (N, c_j, H_j, W_j) to as many maps (N, out_channels, H_j, W_j)."""
        return self.pyramid(features)


class BiFPN(PeerPyramid):
    """Three weighted bidirectional layers of separable convolutions, with BatchNorm.

    Levels beyond the bottom-up's come from the top block, as in FPN, not from BiFPN's own P6, P7.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        top_block: nn.Module | None = None,
    ) -> None:
        import feneck

        super().__init__(bottom_up, in_features, out_channels, top_block)
        self.pyramid = feneck.BiFPN(
            self.in_channels,
            self.strides,
            out_channels,
            num_levels=len(self.in_channels),
            num_layers=BIFPN_LAYERS,
            norm_type="batch",
        )

    def build_pyramid(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map features (N, c_j, H_j, W_j) to as many maps (N, out_channels, H_j, W_j)."""
        return self.pyramid(features)
