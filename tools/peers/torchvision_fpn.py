"""torchvision's FPN behind the interface of Detectron2's."""

from collections.abc import Sequence

import torch
from detectron2.modeling import Backbone
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from .base import PeerPyramid

__all__ = ["TorchvisionFPN"]


class TorchvisionFPN(PeerPyramid):
    """``torchvision.ops.FeaturePyramidNetwork``, which up-samples to the finer map's very size."""

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        top_block: nn.Module | None = None,
    ) -> None:
        super().__init__(bottom_up, in_features, out_channels, top_block)
        self.pyramid = FeaturePyramidNetwork(self.in_channels, out_channels)

    def build_pyramid(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map features (N, c_j, H_j, W_j) to as many maps (N, out_channels, H_j, W_j)."""
        return list(self.pyramid(dict(zip(self.in_features, features, strict=True))).values())
