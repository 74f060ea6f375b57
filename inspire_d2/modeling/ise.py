"""Intra-scale semantic enhancement (ISE): every scale enriched by itself, before any fusion.

Shape shorthand in this module:
    N: images in the batch; c: channels in; d: channels out; h: hidden channels; H, W: the map.

Source: design equations F_ad, F_fe of the INSPIRE paper (doi 10.1016/j.cmpb.2025.108705).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .pixelwise import as_rows, project

__all__ = ["AdaptiveDescriptor", "FeatureEnhancement"]

# Channels of the pooled vector's MLP: c / REDUCTION, as in squeeze-and-excitation.
REDUCTION = 16
MIN_HIDDEN = 8
# Channels normalised together. With fewer than a CPU's vector holds, 16 of bfloat16, PyTorch's
# backward pass takes up to seven times as long.
GROUP_CHANNELS = 16


def _group_norm(norm: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
    """Apply a GroupNorm in the map's own precision.

    Autocast on a GPU would make float32 maps, twice as large; sums are taken in float32 anyway.
    """
    if not _autocast_widens_norms(x.device.type):
        return norm(x)
    weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)  # the kernel takes one dtype
    with torch.autocast(x.device.type, enabled=False):
        return F.group_norm(x, norm.num_groups, weight, bias, norm.eps)


def _autocast_widens_norms(device: str) -> bool:
    return device != "cpu" and torch.is_autocast_enabled(device)


class AdaptiveDescriptor(nn.Module):
    """F_ad's gate: how much each channel of an image matters, from its global average.

    No norm: at batch 1 a pooled vector has no statistics to normalise by.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, MIN_HIDDEN)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features (N, c, H, W) to the gate A' in (0, 1), of shape (N, c, 1, 1)."""
        # So that its gradient has the order in memory of x, and of the others' gradients for x.
        pooled = x.mean(dim=(2, 3)) if x.is_contiguous() else as_rows(x).mean(dim=1)
        pooled = pooled.to(self.squeeze.weight.dtype)
        # On vectors half precision saves nothing, and its casts are steps of their own.
        with torch.autocast(x.device.type, enabled=False):
            gate = torch.sigmoid(self.excite(F.relu(self.squeeze(pooled))))
        return gate[:, :, None, None]


class FeatureEnhancement(nn.Module):
    """F_fe(X, F_ad(X)) = W_o relu(norm(D (W_c X + W_a (A' * X)))): zero at initialisation.

    W_a acts on X scaled channel by channel, so W_c X + W_a (A' * X) = (W_c + W_a diag(A')) X:
    one 1x1 convolution whose weight depends on the image. It is computed in that folded form.
    D is a depthwise 3x3 convolution, which the paper's figure does not show: it lets a pixel see
    its neighbours at next to no cost (docs/findings.md has what it gains).
    """

    def __init__(self, in_channels: int, out_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.descriptor = AdaptiveDescriptor(in_channels)
        self.map_feature = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)
        self.map_descriptor = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)
        self.depthwise = nn.Conv2d(
            hidden_channels, hidden_channels, 3, padding=1, groups=hidden_channels, bias=False
        )
        with torch.no_grad():
            self.depthwise.weight[:, 0, 1, 1] += 1  # begins as a pixel and some of its neighbours
        together = math.gcd(hidden_channels, GROUP_CHANNELS)
        # A channel of one pixel alone has no statistics to normalise by.
        groups = hidden_channels // together if together > 1 else 1
        self.norm = nn.GroupNorm(groups, hidden_channels)
        self.output = nn.Conv2d(hidden_channels, out_channels, 1, bias=False)
        nn.init.zeros_(self.output.weight)

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """Map features (N, c, H, W) to the hidden ones before W_o, (N, h, H, W)."""
        gate = self.descriptor(x).flatten(1)[:, None]
        # One matrix (h, c) an image.
        weight = self.map_feature.weight.flatten(1) + self.map_descriptor.weight.flatten(1) * gate
        x = _group_norm(self.norm, self.depthwise(project(weight, x)))
        return F.relu(x, inplace=True)

    def forward(self, x: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """Map features (N, c, H, W) to their enhancement (N, d, H, W), added to ``onto``."""
        return project(self.output.weight.flatten(1), self.hidden(x), onto)
