"""SSBA: the pyramid fed back into the bottom-up's features."""

import pytest
import torch

from inspire_d2.modeling import BackAugmentation

from . import reference
from .helpers import arrays, assert_close, gradients_missing, image, randomise


def random_pair(batch: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A pyramid level of 4 channels and a feature of 6, in float64."""
    pyramid = image(batch, 4, *size, seed=1, dtype=torch.float64)
    return pyramid, image(batch, 6, *size, seed=2, dtype=torch.float64)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
def test_augmentation_is_the_reference(size: tuple[int, int], batch: int) -> None:
    module = randomise(BackAugmentation(4, 6, 16)).double()
    pyramid, feature = random_pair(batch, size)
    expected = reference.ssba(
        pyramid.numpy(), feature.numpy(), arrays(module), module.enhancement.norm.num_groups
    )
    assert_close(module(pyramid, feature), expected)


def test_augmentation_begins_as_the_feature_exactly() -> None:
    pyramid, feature = (x.float() for x in random_pair(2, (4, 4)))
    assert torch.equal(BackAugmentation(4, 6, 8)(pyramid, feature), feature)


def test_augmentation_can_learn_from_its_beginning() -> None:
    module = BackAugmentation(4, 6, 8)
    pyramid, feature = (x.float() for x in random_pair(2, (4, 4)))
    module(pyramid, feature).pow(2).sum().backward()
    assert not gradients_missing(module, nonzero=False)
    assert module.enhancement.output.weight.grad.any()
    assert module.fusion.bias.grad.any()


@pytest.mark.usefixtures("true_gradients")
def test_augmentation_gradients() -> None:
    module = randomise(BackAugmentation(2, 3, 4)).double()
    pyramid = image(1, 2, 2, 3, seed=1, dtype=torch.float64).requires_grad_()
    feature = image(1, 3, 2, 3, seed=2, dtype=torch.float64).requires_grad_()
    inputs = (pyramid, feature, *module.parameters())
    assert torch.autograd.gradcheck(lambda p, f, *_: module(p, f), inputs)


def test_every_parameter_gets_a_gradient() -> None:
    module = randomise(BackAugmentation(4, 6, 16)).double()
    module(*random_pair(2, (4, 6))).pow(2).sum().backward()
    assert not gradients_missing(module)
