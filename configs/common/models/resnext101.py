"""ResNeXt-101 32x8d in place of a model's ResNet."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from inspire_d2.modeling.resnext import make_resnext_stages


def use_resnext101(model: DictConfig, train: DictConfig) -> None:
    """Change the bottom-up, and what its ImageNet weights expect."""
    model.backbone.bottom_up.stages = L(make_resnext_stages)(
        depth=101, num_groups=32, width_per_group=8, stride_in_1x1=False, norm="FrozenBN"
    )
    model.pixel_std = [57.375, 57.120, 58.395]
    train.init_checkpoint = "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl"
