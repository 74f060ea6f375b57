"""U-Net with an encoder of its own, random at first, for volumes: the image's resolution is kept.

`model` is the plain U-Net; `decoder`, INSPIRE, or `fpn` may take its backbone's place.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.fpn import FPN

from inspire_d2.modeling import InspireFPN
from inspire_d2.modeling.losses import RegionLoss
from inspire_d2.modeling.semantic_head import SemanticHead, UNetHead
from inspire_d2.modeling.unet import UNet, UNetEncoder
from inspire_d2.modeling.volume import VolumeSegmentor

encoder = L(UNetEncoder)(
    # with n neighbour slices on each side: 2 n + 1 times those of a slice
    in_channels=1,
    widths=[32, 64, 128, 256, 256],
    # "IN" for instance norm
    norm="GN",
)

model = L(VolumeSegmentor)(
    backbone=L(UNet)(
        bottom_up=encoder, in_features=["enc0", "enc1", "enc2", "enc3", "enc4"], norm="GN"
    ),
    sem_seg_head=L(UNetHead)(
        # deep supervision: name coarser maps too, [p0, p1, p2]
        features=["p0"],
        channels="${..backbone.bottom_up.widths}",
        loss=L(RegionLoss)(
            # name: label values; from the outer region to the inner where one lies in another
            regions={"lesion": [1]},
            # True for classes, of which a voxel has one at most: softmax in place of sigmoids
            exclusive=False,
            dice_weight=1.0,
        ),
    ),
    # volumes are stored with a mean of 0 and a deviation of 1
    pixel_mean=[0.0],
    pixel_std=[1.0],
    # [height, width] of windows slid over a slice; None predicts whole slices
    window=None,
    overlap=0.5,
    slices_per_batch=8,
    # average over mirror images of a slice
    mirror=False,
)

decoder = L(InspireFPN)(
    bottom_up=encoder,
    in_features=["enc0", "enc1", "enc2", "enc3", "enc4"],
    out_channels=32,
    steps=2,
    out_features="${..sem_seg_head.features}",
)

# Semantic FPN reads the same encoder from stride 4 on.
fpn = L(FPN)(bottom_up=encoder, in_features=["enc2", "enc3", "enc4"], out_channels=128)

semantic_head = L(SemanticHead)(
    input_shape={
        f"p{level}": L(ShapeSpec)(stride=2**level, channels="${....backbone.out_channels}")
        for level in (2, 3, 4)
    },
    conv_dims=64,
    common_stride=4,
    norm="GN",
    loss=model.sem_seg_head.loss,
)
