"""What every peer shares: the interface of Detectron2's FPN around a plain list of maps."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

__all__ = ["PeerPyramid"]


class PeerPyramid(Backbone):
    """A bottom-up and a pyramid on it, with FPN's names, strides and top block.

    A peer sets its layers up from ``in_channels`` and ``strides``, both fine to coarse, and
    implements :meth:`build_pyramid`.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        top_block: nn.Module | None = None,
    ) -> None:
        """Take the part of FPN's arguments that a peer has a use for; they mean what FPN's do."""
        super().__init__()
        shapes = bottom_up.output_shape()
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)
        self.out_channels = out_channels
        self.in_channels = [shapes[name].channels for name in in_features]
        self.strides = [shapes[name].stride for name in in_features]
        self.top_block = top_block
        strides = list(self.strides)
        for _ in range(top_block.num_levels if top_block is not None else 0):
            strides.append(2 * strides[-1])
        self._out_feature_strides = {f"p{int(math.log2(stride))}": stride for stride in strides}
        self._out_features = list(self._out_feature_strides)

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride of the bottom-up's features, as FPN's."""
        return self.strides[-1]

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each output."""
        return {
            name: ShapeSpec(channels=self.out_channels, stride=stride)
            for name, stride in self._out_feature_strides.items()
        }

    @abstractmethod
    def build_pyramid(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map features (N, c_j, H_j, W_j) to as many maps (N, out_channels, H_j, W_j)."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images (N, C, H, W) to {"p2": (N, out_channels, H/4, W/4), ...}, fine to coarse."""
        features = self.bottom_up(x)
        outputs = self.build_pyramid([features[name] for name in self.in_features])
        if self.top_block is not None:
            available = dict(zip(self._out_features, outputs, strict=False)) | features
            outputs = [*outputs, *self.top_block(available[self.top_block.in_feature])]
        return dict(zip(self._out_features, outputs, strict=True))
