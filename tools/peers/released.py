"""The neck of INSPIRE's public release, written anew from docs of its design, to compare cost.

What follows the release: a 1x1 lateral convolution to 180 channels at every level; a squeeze gate
(ISE) on those 180 channels, the top level left out; up-sampling by a transposed convolution;
offsets by a 1x1 convolution of the up-sampled and the fine map side by side (360 channels); a
deformable 3x3 convolution from those 360 channels to 180; the fusion g * aligned + (1 - g) * fine
with g the tanh of a 1x1 convolution.

What is our reading, because the description leaves it open: the gate's MLP (180, 45, 180) and that
its result is added to its input; kernel and stride 2 of the transposed convolution; g from the
same 360 channels, one for each of 180; a 3x3 convolution from 180 to out_channels at every level.

What departs from it: the release has one BatchNorm for both the pooled vector and the full map,
which fails at batch 1 in training, where a pooled vector is one value a channel. Here each level
has a BatchNorm of its own, on the full map alone. The release is bound to 3 levels and to CUDA;
this takes any number of levels, any device and odd sizes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling import Backbone
from torch import nn
from torchvision.ops import DeformConv2d

from .base import PeerPyramid

__all__ = ["ReleasedPyramid"]

RELEASED_CHANNELS = 180
REDUCTION = 4
OFFSETS = 2 * 3 * 3  # y and x for each tap of a 3x3 kernel


class SqueezeGate(nn.Module):
    """ISE at reduced width: x + relu(norm(conv([x, gate * x]))), the gate from x's mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // REDUCTION, 1)
        self.excite = nn.Conv2d(channels // REDUCTION, channels, 1)
        self.joint = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, c, H, W) to the same shape."""
        pooled = x.mean(dim=(2, 3), keepdim=True)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(pooled))))
        return x + F.relu(self.norm(self.joint(torch.cat([x, gate * x], dim=1))))


class DeformableFusion(nn.Module):
    """ISA: lay the coarse map on the fine one by a deformable convolution, blend by a tanh."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.offset = nn.Conv2d(2 * channels, OFFSETS, 1)
        self.align = DeformConv2d(2 * channels, channels, 3, padding=1)
        self.gate = nn.Conv2d(2 * channels, channels, 1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Fuse coarse (N, c, ceil(H/2), ceil(W/2)) into fine (N, c, H, W): fine's shape."""
        up = self.up(coarse)[:, :, : fine.shape[2], : fine.shape[3]]
        both = torch.cat([up, fine], dim=1)
        # torchvision's kernel takes one dtype for all, and offsets need more than half precision.
        with torch.autocast(both.device.type, enabled=False):
            aligned = self.align(both.float(), self.offset(both.float())).to(fine.dtype)
        gate = torch.tanh(self.gate(both))
        return gate * aligned + (1 - gate) * fine


class ReleasedPyramid(PeerPyramid):
    """The released design's pyramid with FPN's interface, see the module's docstring."""

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        top_block: nn.Module | None = None,
        hidden_channels: int = RELEASED_CHANNELS,
    ) -> None:
        """Build on ``bottom_up``; hidden_channels is the width inside, the release's 180."""
        super().__init__(bottom_up, in_features, out_channels, top_block)
        self.laterals = nn.ModuleList(nn.Conv2d(c, hidden_channels, 1) for c in self.in_channels)
        self.outputs = nn.ModuleList(
            nn.Conv2d(hidden_channels, out_channels, 3, padding=1) for _ in self.in_channels
        )
        finer = range(len(self.in_channels) - 1)
        self.gates = nn.ModuleList(SqueezeGate(hidden_channels) for _ in finer)
        self.fusions = nn.ModuleList(DeformableFusion(hidden_channels) for _ in finer)

    def build_pyramid(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Reduce and gate every level, then align and fuse from coarse to fine."""
        levels = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for i in reversed(range(len(self.gates))):
            levels[i] = self.fusions[i](levels[i + 1], self.gates[i](levels[i]))
        return [output(x) for output, x in zip(self.outputs, levels, strict=True)]
