"""U-Net: encoders that keep the image's resolution, and the plain decoder, INSPIRE's baseline.

With InspireFPN on one of these encoders the pyramid is the U-Net's decoder: ISE its skips, ISA its
way up, SSBA its way back into the encoder.

Shape shorthand in this module:
    N: images in the batch; c_j, d_j: channels of the encoder and the decoder at stride 2^j; H, W:
    the image, any size: a level has its stride's share of it, rounded up.

Source: U-Net (Ronneberger et al., MICCAI 2015), with padded convolutions and norms.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import nn

__all__ = ["ResNetEncoder", "StrideTwoStem", "UNet", "UNetEncoder"]


class UNetEncoder(Backbone):
    """The contracting path: "enc0" at stride 1, "enc1" at 2, and so on.

    A stage is two 3x3 convolutions, each with norm and ReLU; all but the first begin with 2x2 max
    pooling.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], norm: str = "GN") -> None:
        """Build it from random weights.

        Args:
            in_channels: channels of the image, 1 or more.
            widths: c_0, c_1, ..., fine to coarse: two or more.
            norm: "IN" for instance norm, or what Detectron2's get_norm takes; "GN" has 32 groups,
                or fewer where they do not divide the channels.

        Raises:
            ValueError: fewer than two widths, or a norm that there is not.
        """
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths must give two levels or more, got {list(widths)}.")
        self.stage_names = tuple(f"enc{level}" for level in range(len(widths)))
        for level, width in enumerate(widths):
            layers = [nn.MaxPool2d(2, ceil_mode=True)] if level else []
            before = widths[level - 1] if level else in_channels
            self.add_module(
                f"enc{level}", nn.Sequential(*layers, *convolutions(before, width, norm))
            )
        self._out_features = list(self.stage_names)
        self._out_feature_channels = dict(zip(self.stage_names, widths, strict=True))
        self._out_feature_strides = {f"enc{level}": 2**level for level in range(len(widths))}

    @property
    def size_divisibility(self) -> int:
        """None needed."""
        return 0

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images (N, C, H, W) to {"enc0": (N, c_0, H, W), "enc1": ...}."""
        features = {}
        for name in self.stage_names:
            x = features[name] = getattr(self, name)(x)
        return features


class StrideTwoStem(BasicStem):
    """ResNet's stem without its max pooling."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: str = "BN") -> None:
        """Take BasicStem's arguments; its weights fit."""
        super().__init__(in_channels, out_channels, norm)
        self.stride = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, H, W) to (N, c_1, H/2, W/2)."""
        return F.relu_(self.conv1(x))


class ResNetEncoder(ResNet):
    """A ResNet as a U-Net's encoder: "stem" at stride 2, res2 at 4, and so on.

    The stem's max pooling is res2's first operation, so that the finer map can be a feature; the
    weights are ResNet's, and so are the maps from res2 on.
    """

    def __init__(self, stem: StrideTwoStem, stages: Sequence[Sequence[Any]], **kwargs: Any) -> None:
        """Take ResNet's arguments.

        Raises:
            ValueError: the stem is not one that stops at stride 2.
        """
        if stem.stride != 2:
            raise ValueError(
                f"ResNetEncoder needs a stem of stride 2 (StrideTwoStem), got {stem.stride}."
            )
        stages[0][0].stride *= 2  # with the pooling; ResNet adds strides up from it
        super().__init__(stem, stages, **kwargs)
        self.res2 = _PooledStage(*self.res2)
        self.stages[0] = self.res2


class _PooledStage(nn.Sequential):
    """A ResNet's stage after the max pooling of its stem."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.max_pool2d(x, kernel_size=3, stride=2, padding=1))


class UNet(Backbone):
    """The expanding path: up-sample, concatenate the skip, convolve twice; the plain U-Net.

    It offers a map a level, "p0" for the encoder's feature of stride 1, but for the coarsest, which
    is the encoder's own.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        norm: str = "GN",
        widths: Sequence[int] | None = None,
    ) -> None:
        """Build the decoder on ``bottom_up``.

        Args:
            in_features: two or more features of strides that double, fine to coarse.
            norm: as UNetEncoder's.
            widths: d_j of the maps, fine to coarse; None takes the encoder's c_j.

        Raises:
            ValueError: fewer features, strides that do not double, or another number of widths.
        """
        super().__init__()
        shapes = [bottom_up.output_shape()[name] for name in in_features]
        strides = [shape.stride for shape in shapes]
        if len(strides) < 2 or any(b != 2 * a for a, b in zip(strides, strides[1:], strict=False)):
            raise ValueError(
                f"in_features must name two or more levels whose strides double, got {strides}."
            )
        skips = [shape.channels for shape in shapes[:-1]]
        widths = list(widths or skips)
        if len(widths) != len(skips):
            raise ValueError(f"widths must give {len(skips)} levels, got {widths}.")
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)
        self._levels = [int(math.log2(stride)) for stride in strides[:-1]]
        coarser = [*widths[1:], shapes[-1].channels]
        for level, before, skip, width in zip(self._levels, coarser, skips, widths, strict=True):
            up = nn.ConvTranspose2d(before, width, kernel_size=2, stride=2)
            self.add_module(f"up{level}", up)
            self.add_module(f"dec{level}", nn.Sequential(*convolutions(skip + width, width, norm)))
        self._size_divisibility = strides[-1]
        self._out_features = [f"p{level}" for level in self._levels]
        self._out_feature_channels = dict(zip(self._out_features, widths, strict=True))
        self._out_feature_strides = dict(zip(self._out_features, strides[:-1], strict=True))

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride, as FPN's."""
        return self._size_divisibility

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images (N, C, H, W) to {"p0": (N, d_0, H, W), "p1": ...}, fine to coarse."""
        features = self.bottom_up(x)
        *skips, x = (features[name] for name in self.in_features)
        pyramid = []
        for level, skip in zip(reversed(self._levels), reversed(skips), strict=True):
            # A level of odd size is half of it, rounded up, one level higher.
            x = getattr(self, f"up{level}")(x)[..., : skip.shape[-2], : skip.shape[-1]]
            x = getattr(self, f"dec{level}")(torch.cat([skip, x], dim=1))
            pyramid.insert(0, x)
        return dict(zip(self._out_features, pyramid, strict=True))


def convolutions(in_channels: int, out_channels: int, norm: str, count: int = 2) -> list[nn.Module]:
    """Return 3x3 convolutions with norm and ReLU, as a level of a U-Net has two."""
    layers = []
    for index in range(count):
        conv = Conv2d(
            out_channels if index else in_channels,
            out_channels,
            kernel_size=3,
            padding=1,
            bias=not norm,
            norm=_norm(norm, out_channels),
            activation=F.relu,
        )
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        layers.append(conv)
    return layers


def _norm(norm: str, channels: int) -> nn.Module | None:
    if norm == "IN":
        return _GroupNorm(channels, channels)
    if norm == "GN":
        return _GroupNorm(math.gcd(32, channels), channels)
    try:
        return get_norm(norm, channels)
    except KeyError:
        raise ValueError(
            f"norm={norm}: take IN, GN, BN, SyncBN or another of get_norm's."
        ) from None


class _GroupNorm(nn.GroupNorm):
    """GroupNorm that takes groups of one element, of small images, and makes them its bias.

    PyTorch's refuses them for fear of a mistake in training.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
