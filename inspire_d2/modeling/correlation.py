"""lambda of F_af: a gate from the correlation of two embeddings, with a backward pass of its own.

Written as it stands in the paper, PyTorch's backward pass takes some forty small operations for a
gate. On a GPU, starting them is what costs.

Shape shorthand in this module:
    N: images in the batch; e: embedding channels; H, W: the map.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["correlation_gate"]

# tau = GAIN * scale and b = GAIN * bias. An optimizer such as Adam moves a scalar by its rate at
# each step at most; without the gain lambda would still be 1 after hundreds of steps.
GAIN = 16.0
EPSILON = 1e-6


def correlation_gate(
    moving: torch.Tensor, resident: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Compute lambda = 2 sigmoid(GAIN (scale s + bias)), with s the cosine of two embeddings.

    moving and resident (N, e, H, W) are float32 or wider, scale and bias scalars; lambda
    (N, 1, H, W) lies in (0, 2).
    """
    if torch.jit.is_tracing():  # an exported graph has no functions of Python
        return _forward(moving, resident, scale, bias)[0]
    return _CorrelationGate.apply(moving, resident, scale, bias)


def _forward(
    moving: torch.Tensor, resident: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Return the gate, the cosine and the two norms, each (N, 1, H, W)."""
    norms = [x.norm(dim=1, keepdim=True) for x in (moving, resident)]
    correlation = (moving * resident).sum(dim=1, keepdim=True)
    correlation = correlation / (norms[0] * norms[1]).clamp(min=EPSILON)
    gate = 2 * torch.sigmoid(GAIN * torch.addcmul(bias, scale, correlation))
    return gate, correlation, *norms


class _CorrelationGate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        moving: torch.Tensor,
        resident: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        gate, *rest = _forward(moving, resident, scale, bias)
        ctx.save_for_backward(moving, resident, scale, gate, *rest)
        return gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        moving, resident, scale, gate, correlation, norm_m, norm_r = ctx.saved_tensors
        # d 2 sigmoid(GAIN z) / dz = GAIN gate (1 - gate / 2)
        for_z = GAIN * gradient * torch.addcmul(gate, gate, gate, value=-0.5)
        for_scale, for_bias = (for_z * correlation).sum(), for_z.sum()
        for_correlation = for_z * scale
        product = norm_m * norm_r
        clamped = product.clamp(min=EPSILON)
        along = for_correlation / clamped
        # What a longer vector takes from the cosine; nothing where the product was clamped.
        across = for_correlation * correlation * (product > EPSILON)
        for_moving = _for_embedding(along, across, moving, resident, norm_r / clamped)
        for_resident = _for_embedding(along, across, resident, moving, norm_m / clamped)
        return for_moving, for_resident, for_scale, for_bias


def _for_embedding(
    along: torch.Tensor,
    across: torch.Tensor,
    own: torch.Tensor,
    other: torch.Tensor,
    inverse_norm: torch.Tensor,
) -> torch.Tensor:
    """Return along * other - across * own / |own|^2."""
    return torch.addcmul(along * other, across * inverse_norm.square(), own, value=-1)
