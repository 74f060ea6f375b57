"""ResNeXt's stages for a LazyConfig; Detectron2 makes them from its yaml configs alone."""

from detectron2.modeling.backbone.resnet import BottleneckBlock, CNNBlockBase, ResNet

__all__ = ["make_resnext_stages"]

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def make_resnext_stages(
    depth: int, *, num_groups: int, width_per_group: int, stride_in_1x1: bool, norm: str
) -> list[list[CNNBlockBase]]:
    """Return res2..res5 of ResNeXt-depth, num_groups x width_per_group d, for ``ResNet(stages=)``.

    Channels are ResNet's, 256 to 2048; bottlenecks have groups x width channels in res2 and twice
    as many in each stage after it.

    Raises:
        ValueError: ``depth`` is not 50, 101 or 152.

    Source: Aggregated Residual Transformations (Xie et al., CVPR 2017), table 1.
    """
    if depth not in BLOCKS:
        raise ValueError(f"ResNeXt has a depth of {', '.join(map(str, BLOCKS))}, not {depth}")
    return [
        ResNet.make_stage(
            BottleneckBlock,
            blocks,
            stride_per_block=[1 if stage == 0 else 2] + [1] * (blocks - 1),
            in_channels=64 if stage == 0 else 128 * 2**stage,
            out_channels=256 * 2**stage,
            bottleneck_channels=num_groups * width_per_group * 2**stage,
            num_groups=num_groups,
            stride_in_1x1=stride_in_1x1,
            norm=norm,
        )
        for stage, blocks in enumerate(BLOCKS[depth])
    ]
