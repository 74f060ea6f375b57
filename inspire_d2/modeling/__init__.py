"""The INSPIRE pyramid and its parts."""

from .builders import (
    add_inspire_config,
    build_resnet_inspire_fpn_backbone,
    build_retinanet_resnet_inspire_fpn_backbone,
)
from .htc import HTCMaskHead, HTCROIHeads, HybridTaskCascade
from .htc_semantic import FusedSemanticBranch
from .inspire_fpn import InspireFPN
from .isa import AdaptiveFusion, DeformAlign, FlowAlign, UpsampleAlign
from .ise import AdaptiveDescriptor, FeatureEnhancement
from .ssba import BackAugmentation
from .staged import StagedBottomUpError
from .tta import RCNNWithTTA

__all__ = [
    "AdaptiveDescriptor",
    "AdaptiveFusion",
    "BackAugmentation",
    "DeformAlign",
    "FeatureEnhancement",
    "FlowAlign",
    "FusedSemanticBranch",
    "HTCMaskHead",
    "HTCROIHeads",
    "HybridTaskCascade",
    "InspireFPN",
    "RCNNWithTTA",
    "StagedBottomUpError",
    "UpsampleAlign",
    "add_inspire_config",
    "build_resnet_inspire_fpn_backbone",
    "build_retinanet_resnet_inspire_fpn_backbone",
]
