"""ResNeXt's stages against Detectron2's own, which only its yaml configs make."""

import pytest
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BasicStem, ResNet, build_resnet_backbone

from inspire_d2.modeling.resnext import make_resnext_stages


@pytest.mark.parametrize("depth", [50, 101])
def test_same_as_from_yaml(depth: int) -> None:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.merge_from_list(
        ["DEPTH", depth, "NUM_GROUPS", 32, "WIDTH_PER_GROUP", 8, "STRIDE_IN_1X1", False]
    )
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    theirs = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    stages = make_resnext_stages(
        depth, num_groups=32, width_per_group=8, stride_in_1x1=False, norm="FrozenBN"
    )
    ours = ResNet(
        BasicStem(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages,
        out_features=["res2", "res3", "res4", "res5"],
    )
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    convolutions = [
        [
            (m.stride, m.groups)
            for m in model.modules()
            if hasattr(m, "groups") and hasattr(m, "stride")
        ]
        for model in (ours, theirs)
    ]
    assert convolutions[0] == convolutions[1]


def test_unknown_depth() -> None:
    with pytest.raises(ValueError, match="not 18"):
        make_resnext_stages(18, num_groups=1, width_per_group=64, stride_in_1x1=False, norm="GN")
