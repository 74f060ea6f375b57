"""The pyramids whose cost is compared, by name."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN

from inspire_d2.modeling import InspireFPN
from tools.peers import BiFPN, PathAggregationFPN, ReleasedPyramid, TorchvisionFPN

__all__ = ["BASELINE", "DEFAULT", "QUICK", "SUBJECTS", "Subject"]

BASELINE = "fpn"
PINNED = {"feneck": "feneck==0.0.1"}


@dataclass(frozen=True)
class Subject:
    """A pyramid that takes bottom_up, in_features, out_channels and top_block by name.

    feeds_back: it runs the bottom-up's stages again, so it has no cost without a bottom-up.
    package: an optional package that it needs; "" for none.
    """

    name: str
    build: Callable[..., Backbone]
    feeds_back: bool = False
    package: str = ""

    def obstacle(self, scope: str) -> str:
        """Say why this subject cannot be measured in ``scope``; "" where it can."""
        if self.feeds_back and scope == "pyramid":
            return "runs the bottom-up's stages again, which fixed feature maps do not have"
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"needs an optional package: pip install --no-deps {PINNED[self.package]}"
        return ""


def _inspire(name: str, **options: object) -> Subject:
    return Subject(name, partial(InspireFPN, **options), feeds_back=options["steps"] > 1)


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(BASELINE, FPN),
        _inspire("inspire1-none", steps=1, align="none"),
        _inspire("inspire1-flow", steps=1, align="flow"),
        _inspire("inspire1-deform", steps=1, align="deform"),
        _inspire("inspire2-none", steps=2, align="none"),
        _inspire("inspire2-flow", steps=2, align="flow"),
        _inspire("inspire2-deform", steps=2, align="deform"),
        _inspire("inspire2-flow-checkpoint", steps=2, align="flow", checkpoint_steps=True),
        _inspire("inspire2-flow-gradient1", steps=2, align="flow", gradient_steps=1),
        _inspire("inspire3-flow-gradient1", steps=3, align="flow", gradient_steps=1),
        _inspire("inspire2-none-separate", steps=2, align="none", feedback="separate"),
        _inspire("inspire2-flow-separate", steps=2, align="flow", feedback="separate"),
        _inspire("inspire2-deform-separate", steps=2, align="deform", feedback="separate"),
        Subject("released", ReleasedPyramid),
        Subject("torchvision-fpn", TorchvisionFPN),
        Subject("pafpn", PathAggregationFPN, package="feneck"),
        Subject("bifpn", BiFPN, package="feneck"),
    )
}
# What a run without --subjects measures: of each of INSPIRE's arguments, what it costs by itself.
DEFAULT = [
    BASELINE,
    "inspire1-flow",
    "inspire1-deform",
    "inspire2-flow",
    "inspire2-flow-checkpoint",
    "inspire2-flow-gradient1",
    "inspire3-flow-gradient1",
    "inspire2-flow-separate",
    "released",
    "torchvision-fpn",
    "pafpn",
    "bifpn",
]
QUICK = [BASELINE, "inspire1-flow", "inspire2-flow", "inspire2-flow-checkpoint", "released"]
