"""The models that are measured, and one step of each.

All subjects of a setting share one bottom-up, one RPN and one set of heads: the very modules, so
that their weights are the same, and their work too.
"""

import math
from collections.abc import Callable

import torch
from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, GeneralizedRCNN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from .scene import make_inputs, make_proposals
from .setting import Setting
from .subjects import Subject

__all__ = ["Workload"]

IN_FEATURES = ["res2", "res3", "res4", "res5"]
CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)
OUT_CHANNELS = 256
# Weight of the last norm of a residual branch. With FrozenBN at its initial 1, random weights make
# each block double the variance of its input, and the losses diverge.
BRANCH_SCALE = 0.2
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class GivenFeatures(Backbone):
    """In place of a bottom-up: takes the feature maps of a ResNet-50 and hands them on."""

    def forward(self, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the maps {"res2": (N, 256, H/4, W/4), ...} unchanged."""
        return x

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and strides of ResNet-50's features."""
        shapes = zip(IN_FEATURES, CHANNELS, STRIDES, strict=True)
        return {name: ShapeSpec(channels=c, stride=stride) for name, c, stride in shapes}


class GivenProposals(nn.Module):
    """An RPN that does all its work, whose proposals are then replaced by given ones."""

    def __init__(self, rpn: nn.Module, proposals: list[Instances]) -> None:
        super().__init__()
        self.rpn = rpn
        self.proposals = proposals

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Return the given proposals and the RPN's losses."""
        return self.proposals, self.rpn(images, features, gt_instances)[1]


class Workload:
    """What the subjects of a setting have in common, and how each becomes a model."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        torch.manual_seed(setting.seed)
        generator = torch.Generator().manual_seed(setting.seed)
        if setting.scope == "pyramid":
            self.bottom_up = GivenFeatures()
            self.inputs = self._feature_maps(generator)
            return
        self.cfg = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
        self.cfg.backbone.bottom_up.freeze_at = 2
        self.bottom_up = _damp(instantiate(self.cfg.backbone.bottom_up))
        inputs = make_inputs(setting.height, setting.width, setting.batch, generator)
        if setting.scope == "backbone":
            images = [record["image"] / 128 - 1 for record in inputs]
            # Padded as a detector pads them.
            images = ImageList.from_tensors(images, STRIDES[-1]).tensor
            self.inputs = self._place(images)
        else:
            self.inputs = inputs
            proposals = make_proposals(inputs, generator, setting.device)
            rpn = _even_out_rpn(instantiate(self.cfg.proposal_generator))
            self.proposal_generator = GivenProposals(rpn, proposals)
            self.roi_heads = _even_out_heads(instantiate(self.cfg.roi_heads))

    def build(self, subject: Subject) -> nn.Module:
        """Make a subject's model; its own weights come from the setting's seed."""
        torch.manual_seed(self.setting.seed)
        backbone = model = subject.build(
            bottom_up=self.bottom_up,
            in_features=IN_FEATURES,
            out_channels=OUT_CHANNELS,
            top_block=LastLevelMaxPool(),
        )
        if self.setting.scope == "detector":
            model = GeneralizedRCNN(
                backbone=backbone,
                proposal_generator=self.proposal_generator,
                roi_heads=self.roi_heads,
                pixel_mean=list(self.cfg.pixel_mean),
                pixel_std=list(self.cfg.pixel_std),
                input_format=self.cfg.input_format,
            )
        model.to(self.setting.device)
        if self.setting.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.setting.compile:
            # Shapes in the rest of a detector depend on the data.
            backbone.compile()
        return model

    def step(self, model: nn.Module, mode: str) -> Callable[[], None]:
        """Make what is timed: a forward pass, or forward, backward and clearing of gradients.

        "forward" is evaluation without gradients, for a detector with its post-processing;
        "train" is training without the optimizer's step, which costs all subjects alike.
        """
        training = mode == "train"
        model.train(training)
        dtype = DTYPES[self.setting.precision]
        device_type = torch.device(self.setting.device).type

        def run() -> None:
            with (
                EventStorage(),
                torch.set_grad_enabled(training),
                torch.autocast(device_type, dtype=dtype, enabled=dtype is not None),
            ):
                outputs = model(self.inputs)
                if training and self.setting.scope != "detector":
                    outputs = {name: x.float().mean() for name, x in outputs.items()}
            if training:
                sum(outputs.values()).backward()
                model.zero_grad(set_to_none=True)
                if self.setting.scope == "pyramid":
                    for x in self.inputs.values():
                        x.grad = None

        return run

    def _feature_maps(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Draw a ResNet-50's features; as with two frozen stages, res2 needs no gradient."""
        maps = {}
        for name, channels, stride in zip(IN_FEATURES, CHANNELS, STRIDES, strict=True):
            height, width = (
                STRIDES[-1] * math.ceil(side / STRIDES[-1]) // stride
                for side in (self.setting.height, self.setting.width)
            )
            x = torch.randn(self.setting.batch, channels, height, width, generator=generator)
            maps[name] = self._place(x).requires_grad_(name != "res2")
        return maps

    def _place(self, x: torch.Tensor) -> torch.Tensor:
        last = self.setting.channels_last
        order = torch.channels_last if last else torch.contiguous_format
        return x.to(self.setting.device).contiguous(memory_format=order)


def _damp(bottom_up: nn.Module) -> nn.Module:
    for name, norm in bottom_up.named_modules():
        if name.endswith("conv3.norm"):
            norm.weight.fill_(BRANCH_SCALE)
    return bottom_up


def _even_out_rpn(rpn: nn.Module) -> nn.Module:
    """Let the RPN propose its anchors whatever it sees, so that its NMS has the same work."""
    for conv in (rpn.rpn_head.objectness_logits, rpn.rpn_head.anchor_deltas):
        nn.init.zeros_(conv.weight)
    return rpn


def _even_out_heads(roi_heads: nn.Module) -> nn.Module:
    """Let the box head keep the proposals as objects of one class, whatever it sees.

    With random weights no class would pass the threshold of scores, and no mask be computed.
    """
    predictor = roi_heads.box_predictor
    for linear in (predictor.cls_score, predictor.bbox_pred):
        nn.init.zeros_(linear.weight)
    with torch.no_grad():
        predictor.cls_score.bias[0] = 5.0  # a score of 0.65 among 81
    return roi_heads
