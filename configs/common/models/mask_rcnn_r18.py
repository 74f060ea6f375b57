"""Mask R-CNN on a ResNet-18 up to res4, with heads half as wide: for 256 px and a CPU."""

from detectron2 import model_zoo

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model

model.input_format = "RGB"
model.pixel_mean = [123.675, 116.28, 103.53]
model.pixel_std = [58.395, 57.12, 57.375]

bottom_up = model.backbone.bottom_up
bottom_up.stages.depth = 18
# Only bottleneck blocks have 1x1 convolutions that could stride.
del bottom_up.stages.stride_in_1x1
bottom_up.out_features = ["res2", "res3", "res4"]
bottom_up.freeze_at = 1
model.backbone.out_channels = 128
model.backbone.top_block = None

rpn = model.proposal_generator
rpn.in_features = ["p2", "p3", "p4"]
rpn.head.in_channels = "${...backbone.out_channels}"
# Two sizes a level: from specks to polyps that fill the image.
rpn.anchor_generator.sizes = [[16, 32], [48, 80], [128, 208]]
rpn.anchor_generator.strides = [4, 8, 16]
rpn.head.num_anchors = 6
rpn.pre_nms_topk = (1000, 500)
rpn.post_nms_topk = (500, 200)

roi_heads = model.roi_heads
roi_heads.num_classes = 1
roi_heads.batch_size_per_image = 64
for kind in ("box", "mask"):
    roi_heads[f"{kind}_in_features"] = ["p2", "p3", "p4"]
    roi_heads[f"{kind}_pooler"].scales = (1 / 4, 1 / 8, 1 / 16)
    roi_heads[f"{kind}_head"].input_shape.channels = "${....backbone.out_channels}"
roi_heads.box_head.fc_dims = [512, 512]
roi_heads.box_predictor.input_shape.channels = 512
roi_heads.mask_head.conv_dims = [128, 128, 128, 128, 128]
