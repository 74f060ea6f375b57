"""HTC's semantic branch: a map of the whole scene, which also tells boxes and masks of it.

Shape shorthand in this module: N images, d channels of the pyramid, K semantic classes, R RoIs.

Source: Hybrid Task Cascade for Instance Segmentation (Chen et al., CVPR 2019), section 3.3.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

__all__ = ["FusedSemanticBranch", "SemanticROIPooler"]


class FusedSemanticBranch(nn.Module):
    """Fuse all levels at one of them, and predict from there a class for every pixel.

    Each level goes through a 1x1 convolution, is resized to the size of ``fused_feature`` and
    added; ``num_convs`` 3x3 convolutions follow; a 1x1 convolution each gives logits and the
    embedding that box and mask heads read. All but the logits end in a ReLU.

    Args:
        in_features: the levels' names.
        fused_feature: the level whose size is taken; of stride 8 in the paper.
        channels: of the levels and of the embedding (d).
        num_classes: K, of stuff and things.
        loss_weight: of the cross-entropy; 0.2 in the paper.
        ignore_value: label of pixels that do not count.
    """

    def __init__(
        self,
        *,
        in_features: Sequence[str],
        fused_feature: str,
        channels: int,
        num_classes: int,
        num_convs: int = 4,
        loss_weight: float = 0.2,
        ignore_value: int = 255,
    ) -> None:
        super().__init__()
        if fused_feature not in in_features:
            raise ValueError(f"fused_feature {fused_feature!r} is none of {list(in_features)}")
        self.in_features, self.fused_feature = tuple(in_features), fused_feature
        self.loss_weight, self.ignore_value = loss_weight, ignore_value
        self.lateral = nn.ModuleDict({name: _conv(channels, 1) for name in in_features})
        self.convs = nn.Sequential(*(_conv(channels, 3) for _ in range(num_convs)))
        self.embedding = _conv(channels, 1)
        self.predictor = Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, features: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Map a pyramid to logits (N, K, h, w) and embedding (N, d, h, w) at the fused stride."""
        size = features[self.fused_feature].shape[-2:]
        fused = sum(self._resized(self.lateral[n](features[n]), size) for n in self.in_features)
        x = self.convs(fused)
        return self.predictor(x), self.embedding(x)

    @staticmethod
    def _resized(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
        if x.shape[-2:] == size:
            return x
        # Pixel centres stay where Detectron2's RoIAlign reads them; the authors align corners.
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare logits (N, K, h, w) with the labels (N, H, W) at the centres of their cells."""
        labels = F.interpolate(
            targets[:, None].float(), size=logits.shape[-2:], mode="nearest-exact"
        )
        labels = labels[:, 0].long()
        total = F.cross_entropy(
            logits.float(), labels, ignore_index=self.ignore_value, reduction="sum"
        )
        counted = (labels != self.ignore_value).sum().clamp(min=1)
        return {"loss_sem_seg": self.loss_weight * total / counted}


class SemanticROIPooler(nn.Module):
    """Add the semantic features of a RoI to those of the pyramid."""

    def __init__(self, pooler: ROIPooler, semantic_pooler: ROIPooler) -> None:
        super().__init__()
        self.pooler, self.semantic_pooler = pooler, semantic_pooler

    def forward(self, features: list[torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        """Read levels, the semantic embedding the last of them, in boxes: (R, d, h, w)."""
        *levels, semantic = features
        x = self.pooler(levels, boxes)
        y = self.semantic_pooler([semantic], boxes)
        # Not x's shape, which ONNX does not take for constant.
        return x + F.adaptive_avg_pool2d(y, self.pooler.output_size)


def _conv(channels: int, kernel_size: int) -> Conv2d:
    conv = Conv2d(
        channels, channels, kernel_size, padding=kernel_size // 2, activation=nn.ReLU(inplace=True)
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    return conv
