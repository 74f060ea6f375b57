"""lambda's own backward pass, against PyTorch's of the same formula."""

import pytest
import torch
import torch.nn.functional as F

from inspire_d2.modeling.correlation import correlation_gate

from .helpers import assert_close, image


def embeddings(batch: int, channels: int) -> list[torch.Tensor]:
    """Two embeddings, and lambda's two scalars."""
    maps = [image(batch, channels, 3, 4, seed=seed, dtype=torch.float64) for seed in (1, 2)]
    scalars = [torch.tensor(value, dtype=torch.float64) for value in (0.05, -0.02)]
    return [x.requires_grad_() for x in (*maps, *scalars)]


def by_pytorch(
    m: torch.Tensor, r: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """The formula as it stands, its cosine by PyTorch too."""
    return 2 * torch.sigmoid(16 * (scale * F.cosine_similarity(m, r, dim=1)[:, None] + bias))


@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (1, 16), (3, 5)])
def test_gate_and_gradients_are_those_of_the_formula(batch: int, channels: int) -> None:
    inputs = embeddings(batch, channels)
    toward = image(batch, 1, 3, 4, seed=3, dtype=torch.float64)
    results = []
    for gate in (correlation_gate(*inputs), by_pytorch(*inputs)):
        results.append((gate, *torch.autograd.grad((gate * toward).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        if channels == 1 and theirs.abs().max() < 1e-12:  # of one channel the cosine is a sign
            assert ours.abs().max() < 1e-9
        else:
            assert_close(ours, theirs, 1e-9)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(correlation_gate, embeddings(2, 3))


def test_embeddings_of_length_zero_have_finite_gradients() -> None:
    m, r, scale, bias = embeddings(1, 4)
    with torch.no_grad():
        m[:, :, 0] = 0
        r[:, :, :2] = 0
    correlation_gate(m, r, scale, bias).sum().backward()
    for x in (m, r, scale, bias):
        assert torch.isfinite(x.grad).all()
    assert not m.grad[:, :, 0].any() and not r.grad[:, :, 0].any()  # 0 on both sides
