"""Other pyramids behind FPN's interface, to compare with: nothing in inspire_d2 imports them."""

from .feneck_pyramids import BiFPN, PathAggregationFPN
from .released import ReleasedPyramid
from .torchvision_fpn import TorchvisionFPN

__all__ = ["BiFPN", "PathAggregationFPN", "ReleasedPyramid", "TorchvisionFPN"]
