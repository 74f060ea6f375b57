"""Inter-scale spatial alignment (ISA): lay the coarse map on the fine one, then fuse the two.

Shape shorthand in this module:
    N: images in the batch; d: channels; e: embedding channels;
    H, W: the fine map; h, w: the coarse map, h = ceil(H / 2), w = ceil(W / 2).

Source: F_af and ISA of the INSPIRE paper (doi 10.1016/j.cmpb.2025.108705), and the public
release for the deformable alignment.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from .gather import GridReads, RowReads, gather, nearest_reads, shifted_reads
from .pixelwise import PixelwiseConv2d, add_weighted

__all__ = [
    "ALIGN",
    "AdaptiveFusion",
    "DeformAlign",
    "FlowAlign",
    "UpsampleAlign",
    "upsample_nearest",
]

EMBED_CHANNELS = 16
# tau = GAIN * scale and b = GAIN * bias. An optimizer such as Adam moves a scalar by its rate at
# each step at most; without the gain lambda would still be 1 after hundreds of steps. One such as
# SGD moves it by its gradient, and tau and b by GAIN^2 times as much: see _slowed.
GAIN = 16.0


def upsample_nearest(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """Double (N, d, h, w) by its nearest pixels and crop it to the fine map's H, W.

    For even H and W this is FPN's up-sampling; an odd fine map loses the surplus row or column.
    """
    up = F.interpolate(coarse, scale_factor=2.0, mode="nearest")
    return up[:, :, : fine.shape[2], : fine.shape[3]]


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Undo autocast's half precision, in which coordinates and squared sums are far off."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _slowed(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter whose gradient is divided by GAIN^2, at the same value.

    So SGD moves tau and b as if they had no gain, not GAIN^2 times as far; to Adam the size of a
    gradient means nothing.
    """
    if not torch.is_grad_enabled():
        return parameter
    value = parameter.detach()
    return value + (parameter - value) / GAIN**2


class AdaptiveFusion(nn.Module):
    """F_af: fuse a moving and a resident feature by their correlation at each pixel.

    lambda = 2 sigmoid(tau s + b), with s the cosine of the two embeddings, and
    F_af(X, Y) = lambda X + (2 - lambda) Y. At initialisation lambda = 1: FPN's plain sum.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed_moving = nn.Conv2d(channels, EMBED_CHANNELS, 1)
        self.embed_resident = PixelwiseConv2d(channels, EMBED_CHANNELS, 1)
        self.scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))

    def gate(self, moving: torch.Tensor, resident: torch.Tensor) -> torch.Tensor:
        """Map the two embeddings (N, e, H, W) to lambda in (0, 2), of shape (N, 1, H, W)."""
        m, r = _at_least_float32(moving), _at_least_float32(resident)
        norms = m.norm(dim=1, keepdim=True) * r.norm(dim=1, keepdim=True)
        correlation = (m * r).sum(dim=1, keepdim=True) / norms.clamp(min=1e-6)
        exponent = _slowed(self.scale) * correlation + _slowed(self.bias)
        return 2 * torch.sigmoid(GAIN * exponent)

    def forward(self, moving: torch.Tensor, resident: torch.Tensor) -> torch.Tensor:
        """Fuse two maps (N, d, H, W) into one of the same shape."""
        gate = self.gate(self.embed_moving(moving), self.embed_resident(resident))
        gate = gate.to(resident.dtype)
        return add_weighted(gate * moving, 2 - gate, resident)

    def fuse_aligned(
        self, align: "FlowAlign | UpsampleAlign", coarse: torch.Tensor, resident: torch.Tensor
    ) -> torch.Tensor:
        """Lay coarse (N, d, h, w) on a map (N, d, H, W) by ``align``, and fuse the two.

        Equal to ``forward(align(coarse, resident), resident)``, and cheaper: a 1x1 convolution and
        a read whose weights sum to 1 commute, so the embedding is computed on the coarse map,
        lambda multiplies the weights of the read instead of what was read, and each map is embedded
        for both modules at once.
        """
        if isinstance(align, FlowAlign):
            moving, embedded = _embed(coarse, self.embed_moving, align.embed_coarse)
            own, fine = _embed(resident, self.embed_resident, align.embed_fine)
            reads = align.reads(embedded, fine)
        else:
            moving, own = self.embed_moving(coarse), self.embed_resident(resident)
            reads = nearest_reads(coarse, resident)
        gate = self.gate(gather(moving, reads), own)
        read = gather(coarse, reads.scaled(gate))
        return add_weighted(read, 2 - gate.to(resident.dtype), resident)


def _embed(x: torch.Tensor, *convs: nn.Conv2d) -> tuple[torch.Tensor, ...]:
    """Apply several 1x1 convolutions to a map in one pass over it."""
    weight = torch.cat([conv.weight for conv in convs])
    bias = torch.cat([conv.bias for conv in convs])
    return F.conv2d(x, weight, bias).split([conv.out_channels for conv in convs], dim=1)


class FlowAlign(nn.Module):
    """Up-sample and shift in one bilinear read, by an offset predicted for each fine pixel.

    Offsets (x, y) count coarse pixels from the centre of the nearest coarse pixel, so zero
    offsets, as at initialisation, are FPN's nearest up-sampling.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed_coarse = nn.Conv2d(channels, EMBED_CHANNELS, 1)
        self.embed_fine = nn.Conv2d(channels, EMBED_CHANNELS, 1)
        self.offset = nn.Conv2d(2 * EMBED_CHANNELS, 2, 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def flow(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Predict the offsets (N, 2, H, W), x before y, in coarse pixels, from both embeddings."""
        return self.offset(torch.cat([upsample_nearest(coarse, fine), fine], dim=1))

    def reads(self, coarse: torch.Tensor, fine: torch.Tensor) -> RowReads | GridReads:
        """Say where each fine pixel reads the coarse map, from (N, e, h, w) and (N, e, H, W)."""
        return shifted_reads(coarse, _at_least_float32(self.flow(coarse, fine)))

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Lay coarse (N, d, h, w) on fine (N, d, H, W): an aligned map (N, d, H, W)."""
        return gather(coarse, self.reads(self.embed_coarse(coarse), self.embed_fine(fine)))


class DeformAlign(nn.Module):
    """Up-sample, then a deformable 3x3 convolution with offsets predicted from both maps.

    The convolution begins as the identity (Dirac) and the offsets as zero, so that the module
    begins as FPN's nearest up-sampling.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(2 * channels, 2 * 3 * 3, 3, padding=1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        nn.init.dirac_(self.conv.weight)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Lay coarse (N, d, h, w) on fine (N, d, H, W): an aligned map (N, d, H, W)."""
        up = upsample_nearest(coarse, fine)
        offset = _at_least_float32(self.offset(torch.cat([up, fine], dim=1)))
        # torchvision's kernel takes one dtype for all.
        weight = self.conv.weight.to(offset.dtype)
        aligned = deform_conv2d(up.to(offset.dtype), offset, weight, padding=1)
        return aligned.to(coarse.dtype)


class UpsampleAlign(nn.Module):
    """FPN's nearest up-sampling, for ablation."""

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Lay coarse (N, d, h, w) on fine (N, d, H, W): an up-sampled map (N, d, H, W)."""
        return upsample_nearest(coarse, fine)


ALIGN = {"flow": FlowAlign, "deform": DeformAlign, "none": UpsampleAlign}
