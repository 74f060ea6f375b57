"""What the tests of the pyramid share: tiny bottom-ups, random parameters, the reference's view."""

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from torch import nn

from inspire_d2.modeling import FeatureEnhancement, InspireFPN
from inspire_d2.modeling.isa import GAIN

from . import reference

ALIGNS = ("flow", "deform", "none")
FEEDBACKS = ("shared", "separate")


class TinyBottomUp(Backbone):
    """A stem of stride 2 and stages of stride 2, each a convolution and a ReLU.

    Names are unlike a ResNet's; level j is the j-th of ``stem, early, mid, late, last``.
    """

    NAMES = ("stem", "early", "mid", "late", "last")

    def __init__(self, levels: int, width: int = 3) -> None:
        super().__init__()
        self.names = self.NAMES[:levels]
        self.stage_names = self.names[1:]
        previous = 3
        for position, name in enumerate(self.names):
            channels = width + position
            conv = nn.Conv2d(previous, channels, 3, stride=2, padding=1)
            self.add_module(name, nn.Sequential(conv, nn.ReLU()))
            previous = channels
        self._out_features = list(self.names)
        self._out_feature_channels = {n: width + i for i, n in enumerate(self.names)}
        self._out_feature_strides = {n: 2 ** (i + 1) for i, n in enumerate(self.names)}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return every level's feature."""
        features = {}
        for name in self.names:
            x = features[name] = getattr(self, name)(x)
        return features


class OpaqueBottomUp(Backbone):
    """A bottom-up that runs only as a whole: features, but no stages."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TinyBottomUp(3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return every level's feature."""
        return self.inner(x)

    def output_shape(self) -> dict[str, Any]:
        """Return the shapes of the features."""
        return self.inner.output_shape()


def small_norm(channels: int) -> nn.Module:
    """A group norm for the few channels of the tests' networks."""
    return nn.GroupNorm(4, channels)


def tiny_resnet(norm: Any = small_norm, freeze_at: int = 0, width: int = 16) -> ResNet:
    """Detectron2's ResNet with one narrow basic block a stage: res2..res5, strides 4..32.

    Not narrower than a vector: oneDNN 3.10 writes out of bounds in the backward pass of a 1x1
    convolution of stride 2, such as a shortcut, of fewer channels (its issue 6035).
    """
    stages = []
    previous = width
    for position in range(4):
        channels = width * 2**position
        stages.append(
            ResNet.make_stage(
                BasicBlock,
                1,
                in_channels=previous,
                out_channels=channels,
                stride_per_block=[1 if position == 0 else 2],
                norm=norm,
            )
        )
        previous = channels
    stem = BasicStem(3, width, norm=norm)
    names = ["res2", "res3", "res4", "res5"]
    return ResNet(stem, stages, out_features=names, freeze_at=freeze_at)


def tiny_pyramid(
    bottom_up: Backbone, cls: type[FPN] = InspireFPN, out_channels: int = 8, **options: Any
) -> FPN:
    """A pyramid on all features of a bottom-up; ``options`` are its further arguments."""
    return cls(bottom_up, list(bottom_up.output_shape()), out_channels, **options)


def resnet_pyramid(cls: type[FPN] = InspireFPN, **options: Any) -> FPN:
    """A pyramid with p2..p6 on the tiny ResNet."""
    return tiny_pyramid(tiny_resnet(), cls, top_block=LastLevelMaxPool(), **options)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter random values of a sane size: initial zeros would hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() > 1:
                values *= parameter[0].numel() ** -0.5
            elif name.endswith("norm.weight"):
                values = 1 + 0.3 * values
            elif name.endswith("scale"):
                values = (1.5 + 0.5 * values) / GAIN
            elif parameter.dim() == 0:  # a fusion's bias
                values *= 0.5 / GAIN
            else:
                values *= 0.5
            parameter.copy_(values)
    return module


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Seeded normal noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


class _Kept:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def kept_bytes(module: nn.Module, x: torch.Tensor) -> int:
    """Bytes of distinct tensors that a forward pass keeps for the backward pass."""
    kept: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> _Kept:
        kept.add(made := _Kept(tensor))
        return made

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.tensor):
        outputs = module(x)
    storages = [one.tensor.untyped_storage() for one in kept]
    del outputs
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """The module's state as the reference takes it."""
    return {key: value.double().numpy() for key, value in module.state_dict().items()}


def groups_of(module: nn.Module) -> dict[str, int]:
    """The number of groups of each FeatureEnhancement's norm, by the module's name."""
    return {
        name: child.norm.num_groups
        for name, child in module.named_modules()
        if isinstance(child, FeatureEnhancement)
    }


def as_stage(module: nn.Module) -> reference.Stage:
    """A torch stage in float64 as a function on arrays."""

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    return run


def assert_close(actual: torch.Tensor, expected: Any, tolerance: float = 1e-9) -> None:
    """Assert one shape, and a largest difference within ``tolerance`` of the largest value."""
    actual = actual.detach().double()
    expected = torch.as_tensor(expected).detach().double()
    assert actual.shape == expected.shape
    assert torch.isfinite(expected).all()
    largest = expected.abs().max().item()
    assert largest > 0
    difference = (actual - expected).abs().max().item() / largest
    assert difference <= tolerance, f"relative difference {difference:.3g}"


def assert_same_outputs(
    actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-5
) -> None:
    """Assert the same names in the same order, and close values."""
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_close(actual[name], value, tolerance)


def gradients_missing(module: nn.Module, nonzero: bool = True) -> list[str]:
    """The trainable parameters without a gradient (or, if ``nonzero``, with an all-zero one)."""
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or (nonzero and not parameter.grad.any()))
    ]


def backward(outputs: dict[str, torch.Tensor], names: Sequence[str] | None = None) -> None:
    """Back-propagate a loss that no symmetry of the outputs cancels."""
    total = sum(outputs[name].float().pow(2).sum() for name in names or outputs)
    total.backward()
