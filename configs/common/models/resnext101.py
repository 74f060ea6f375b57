"""ResNeXt-101 32x8d for any model with a ResNet, and what its ImageNet weights expect."""

from detectron2.config import LazyCall as L

from inspire_d2.modeling.resnext import make_resnext_stages

stages = L(make_resnext_stages)(
    depth=101, num_groups=32, width_per_group=8, stride_in_1x1=False, norm="FrozenBN"
)
pixel_std = [57.375, 57.120, 58.395]
init_checkpoint = "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl"
