"""ISE's parts: the adaptive descriptor and the feature enhancement."""

import pytest
import torch
import torch.nn.functional as F

from inspire_d2.modeling import AdaptiveDescriptor, FeatureEnhancement, ise

from . import reference
from .helpers import arrays, assert_close, gradients_missing, image, randomise

SHAPES = [(1, 5, 4), (2, 7, 3), (2, 1, 1)]


def enhancement(c: int = 6, d: int = 5, hidden: int = 16, seed: int = 1) -> FeatureEnhancement:
    """A float64 FeatureEnhancement with random parameters; 16 hidden make groups of two."""
    return randomise(FeatureEnhancement(c, d, hidden), seed).double()


@pytest.mark.parametrize("shape", SHAPES)
def test_descriptor_is_the_reference(shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    module = randomise(AdaptiveDescriptor(6)).double()
    x = image(batch, 6, height, width, dtype=torch.float64)
    out = module(x)
    assert out.shape == (batch, 6, 1, 1)
    assert_close(out, reference.adaptive_descriptor(x.numpy(), arrays(module)))


@pytest.mark.parametrize("hidden", [8, 12, 16, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_enhancement_is_the_reference(shape: tuple[int, int, int], hidden: int) -> None:
    batch, height, width = shape
    module = enhancement(hidden=hidden)
    x = image(batch, 6, height, width, dtype=torch.float64)
    expected = reference.feature_enhancement(x.numpy(), arrays(module), module.norm.num_groups)
    assert_close(module(x), expected)


def test_norms_of_the_tests_have_groups_of_several_channels() -> None:
    # Groups of one channel would hide a wrong grouping.
    assert enhancement().norm.num_groups < 16


def test_folded_form_is_the_plain_one() -> None:
    module = enhancement()
    x = image(2, 6, 5, 7, dtype=torch.float64)
    described = module.descriptor(x) * x
    mixed = module.map_feature(x) + module.map_descriptor(described)
    hidden = F.relu(module.norm(module.depthwise(mixed)))
    assert_close(module(x), module.output(hidden), 1e-12)


def test_an_image_is_enhanced_independently_of_its_batch() -> None:
    # The folded weight is each image's own.
    module = enhancement()
    x = image(3, 6, 5, 4, dtype=torch.float64)
    alone = torch.cat([module(x[i : i + 1]) for i in range(3)])
    assert_close(module(x), alone, 1e-12)


def test_training_mode_changes_nothing_at_batch_one() -> None:
    module = enhancement()
    x = image(1, 6, 5, 4, dtype=torch.float64)
    assert torch.equal(module.train()(x), module.eval()(x))


def test_enhancement_begins_as_zero_but_learns() -> None:
    module = FeatureEnhancement(6, 5, 8)
    out = module(image(2, 6, 4, 4))
    assert torch.equal(out, torch.zeros(2, 5, 4, 4))
    (out - 1).pow(2).sum().backward()
    assert module.output.weight.grad.any()


def test_descriptor_gradients() -> None:
    module = randomise(AdaptiveDescriptor(3)).double()
    x = image(2, 3, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))


def test_enhancement_gradients() -> None:
    module = enhancement(3, 2, 4)
    x = image(2, 3, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))


def test_every_parameter_gets_a_gradient() -> None:
    module = enhancement()
    module(image(2, 6, 5, 4, dtype=torch.float64)).pow(2).sum().backward()
    assert not gradients_missing(module)


def test_autocast_keeps_the_enhancement_close() -> None:
    module = randomise(FeatureEnhancement(6, 5, 16), 1)
    x = image(2, 6, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        half = module(x)
        from_half = module(x.bfloat16())
    assert_close(half, module(x), 0.05)
    assert_close(from_half, module(x), 0.05)


def test_half_precision_keeps_no_wide_map_where_autocast_widens_norms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on a GPU; a CPU's autocast leaves norms alone.
    module = randomise(FeatureEnhancement(6, 5, 16), 1)
    x, toward = image(2, 6, 8, 8), image(2, 5, 8, 8, seed=2)
    (module(x) * toward).sum().backward()
    expected = {name: value.grad.clone() for name, value in module.named_parameters()}
    module.zero_grad()
    monkeypatch.setattr(ise, "_autocast_widens_norms", lambda _: True)
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        half = module(x.bfloat16())
    (half * toward).sum().backward()
    assert half.dtype == torch.bfloat16
    assert_close(half, module(x), 0.05)
    hidden = 2 * 16 * 8 * 8
    assert not [t.shape for t in kept if t.numel() >= hidden and t.dtype == torch.float32]
    for name, value in module.named_parameters():
        similar = F.cosine_similarity(value.grad.flatten(), expected[name].flatten(), dim=0)
        assert similar > 0.99, name
