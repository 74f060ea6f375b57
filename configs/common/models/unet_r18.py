"""U-Net on a ResNet-18 up to res4: background and one class; its finest map has stride 2.

`model` is the plain U-Net; `decoder` is INSPIRE, to be put in its backbone's place.
"""

from detectron2.config import LazyCall as L
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor

from inspire_d2.modeling import InspireFPN
from inspire_d2.modeling.losses import CrossEntropyDice
from inspire_d2.modeling.semantic_head import UNetHead
from inspire_d2.modeling.unet import ResNetEncoder, StrideTwoStem, UNet

from .mask_rcnn_r18 import model as mask_rcnn

encoder = mask_rcnn.backbone.bottom_up
encoder._target_ = ResNetEncoder
encoder.stem._target_ = StrideTwoStem
encoder.out_features = ["stem", "res2", "res3", "res4"]

model = L(SemanticSegmentor)(
    backbone=L(UNet)(bottom_up=encoder, in_features=encoder.out_features, norm="GN"),
    sem_seg_head=L(UNetHead)(
        # deep supervision: name coarser maps too, [p1, p2, p3]
        features=["p1"],
        channels={"p1": 64, "p2": 64, "p3": 128},
        num_classes=2,
        loss=L(CrossEntropyDice)(dice_weight=1.0, ignore_value=255),
    ),
    pixel_mean=mask_rcnn.pixel_mean,
    pixel_std=mask_rcnn.pixel_std,
)

decoder = L(InspireFPN)(
    bottom_up=encoder,
    in_features=encoder.out_features,
    out_channels=64,
    steps=2,
    out_features="${..sem_seg_head.features}",
)
