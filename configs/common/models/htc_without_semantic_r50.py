"""HTC on a ResNet-50 without its semantic branch: for data without stuff maps."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from inspire_d2.modeling import HTCMaskHead, HTCROIHeads

model = model_zoo.get_config("common/models/cascade_rcnn.py").model
model.backbone.bottom_up.freeze_at = 2
model.proposal_generator.post_nms_topk = (2000, 1000)
del model.roi_heads["mask_head"]
model.roi_heads.update(
    _target_=HTCROIHeads,
    mask_heads=[
        L(HTCMaskHead)(
            input_shape=ShapeSpec(channels=256, width=14, height=14),
            num_classes="${...num_classes}",
            conv_dims=[256, 256, 256, 256, 256],
            takes_previous=stage > 0,
        )
        for stage in range(3)
    ],
    stage_loss_weights=(1.0, 0.5, 0.25),
)
