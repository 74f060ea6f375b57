"""Hybrid Task Cascade: boxes and masks refined in turn, stage by stage.

Shape shorthand in this module: R RoIs of all images together, d channels of the pyramid,
K classes, S stages.

Source: Hybrid Task Cascade for Instance Segmentation (Chen et al., CVPR 2019).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import CascadeROIHeads, MaskRCNNConvUpsampleHead
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from torch import nn

from ..errors import InputError
from .htc_semantic import FusedSemanticBranch, SemanticROIPooler

__all__ = ["HTCMaskHead", "HTCROIHeads", "HybridTaskCascade"]

# The name under which the semantic branch's features join the pyramid's.
SEMANTIC = "semantic"


class HTCMaskHead(MaskRCNNConvUpsampleHead):
    """Detectron2's mask head, which also takes the features of the stage before it.

    ``takes_previous``: whether there is such a stage; its last convolution's output (R, C, h, w)
    is added to the RoI features through a 1x1 convolution and a ReLU (the paper's mask information
    flow, section 3.2).
    """

    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        takes_previous: bool,
        **kwargs: Any,
    ) -> None:
        # By its name: as the first of the arguments, Detectron2 would take a mapping for a config.
        super().__init__(
            input_shape=input_shape, num_classes=num_classes, conv_dims=list(conv_dims), **kwargs
        )
        self.flow = None
        if takes_previous:
            previous = conv_dims[-2] if len(conv_dims) > 1 else input_shape.channels
            self.flow = Conv2d(previous, input_shape.channels, 1, activation=nn.ReLU())
            nn.init.kaiming_normal_(self.flow.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(self.flow.bias)

    def convolve(self, x: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
        """Map RoI features (R, d, h, w), and the previous stage's, to this stage's features."""
        if self.flow is not None and previous is not None:
            x = x + self.flow(previous)
        for layer in self.conv_norm_relus:
            x = layer(x)
        return x

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Map this stage's features (R, C, h, w) to mask logits (R, K, 2 h, 2 w)."""
        return self.predictor(self.deconv_relu(self.deconv(x)))

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map RoI features to mask logits without a previous stage."""
        return self.predict(self.convolve(x, None))


class HTCROIHeads(CascadeROIHeads):
    """Cascade R-CNN's heads with a mask head a stage and, optionally, a semantic branch.

    In training a stage's mask head sees the boxes that the stage has just refined, matched with
    the stage's own IoU threshold, ground truth added (interleaved execution): at most
    ``batch_size_per_image * positive_fraction`` an image. At test the masks of all stages are
    averaged on the last stage's boxes.

    Args (beyond CascadeROIHeads'; ``mask_heads`` in place of ``mask_head``):
        mask_heads: one a stage, all but the first with ``takes_previous``; none where
            ``mask_in_features`` is None.
        stage_loss_weights: what a stage's box and mask losses are multiplied by. They take the
            place of Cascade's scaling of the gradient at the RoI features by 1 / S.
        semantic_branch: its features are added to those of boxes and masks; its training needs
            semantic targets. None leaves it out.
        semantic_pooler: reads them; its resolution is averaged down to that of a head.

    Raises:
        ValueError: mask heads or loss weights are not as many as the stages, or only one of
            ``semantic_branch`` and ``semantic_pooler`` is given.
    """

    def __init__(
        self,
        *,
        mask_heads: Sequence[HTCMaskHead] = (),
        stage_loss_weights: Sequence[float] = (1.0, 0.5, 0.25),
        semantic_branch: FusedSemanticBranch | None = None,
        semantic_pooler: ROIPooler | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(mask_head=nn.ModuleList(mask_heads), **kwargs)
        stages = self.num_cascade_stages
        if len(stage_loss_weights) != stages:
            raise ValueError(f"{len(stage_loss_weights)} stage_loss_weights for {stages} stages")
        if self.mask_on and len(mask_heads) != stages:
            raise ValueError(f"{len(mask_heads)} mask_heads for {stages} stages")
        if (semantic_branch is None) != (semantic_pooler is None):
            raise ValueError("semantic_branch and semantic_pooler go together")
        self.stage_loss_weights = tuple(stage_loss_weights)
        self.semantic_branch = semantic_branch
        if semantic_branch is not None:
            self.box_in_features = [*self.box_in_features, SEMANTIC]
            self.box_pooler = SemanticROIPooler(self.box_pooler, semantic_pooler)
            if self.mask_on:
                self.mask_in_features = [*self.mask_in_features, SEMANTIC]
                self.mask_pooler = SemanticROIPooler(self.mask_pooler, semantic_pooler)

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
        semantic_targets: torch.Tensor | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Map proposals to losses, or at test to instances; arguments as in CascadeROIHeads.

        ``semantic_targets`` (N, H, W): class of each pixel of the padded images.

        Raises:
            InputError: the semantic branch is to be trained without them.
        """
        semantic_losses: dict[str, torch.Tensor] = {}
        if self.semantic_branch is not None:
            features, logits = self._with_semantics(features)
            if self.training:
                if semantic_targets is None:
                    raise InputError(
                        "HTC's semantic branch needs a 'sem_seg' map with every image: train on "
                        "data with stuff maps, or take an htc_without_semantic config."
                    )
                semantic_losses = self.semantic_branch.losses(logits, semantic_targets)
        if not self.training:
            return super().forward(images, features, proposals)
        proposals = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_stages(features, proposals, targets)
        losses.update(self._forward_keypoint(features, proposals))
        return proposals, losses | semantic_losses

    def forward_with_given_boxes(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks to instances with ``pred_boxes`` and ``pred_classes``."""
        if self.semantic_branch is not None and SEMANTIC not in features:
            features, _ = self._with_semantics(features)
        return super().forward_with_given_boxes(features, instances)

    def _with_semantics(
        self, features: dict[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        logits, embedding = self.semantic_branch(features)
        return features | {SEMANTIC: embedding}, logits

    def _forward_stages(
        self,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances],
    ) -> dict[str, torch.Tensor]:
        """Train the stages in turn: its boxes, then on what they became its masks."""
        box_features = [features[name] for name in self.box_in_features]
        image_sizes = [instances.image_size for instances in proposals]
        losses: dict[str, torch.Tensor] = {}
        refined = proposals
        for stage, (predictor, weight) in enumerate(
            zip(self.box_predictor, self.stage_loss_weights, strict=True)
        ):
            if stage:  # the first stage's have been matched and sampled
                proposals = self._match_and_label_boxes(refined, stage, targets)
            predictions = self._run_stage(box_features, proposals, stage)
            boxes = predictor.predict_boxes(predictions, proposals)
            with get_event_storage().name_scope(f"stage{stage}"):
                stage_losses = predictor.losses(predictions, proposals)
            refined = self._create_proposals_from_boxes(list(boxes), image_sizes)
            if self.mask_on:
                stage_losses["loss_mask"] = self._mask_loss(features, refined, targets, stage)
            losses |= {f"{key}_stage{stage}": loss * weight for key, loss in stage_losses.items()}
        return losses

    def _run_stage(
        self, features: list[torch.Tensor], proposals: list[Instances], stage: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict classes and boxes; without Cascade's gradient scale, see the class."""
        x = self.box_pooler(features, [instances.proposal_boxes for instances in proposals])
        return self.box_predictor[stage](self.box_head[stage](x))

    def _mask_loss(
        self,
        features: dict[str, torch.Tensor],
        refined: list[Instances],
        targets: list[Instances],
        stage: int,
    ) -> torch.Tensor:
        """Train a stage's mask head on the boxes that the stage refined."""
        instances = [
            self._foreground(boxes.proposal_boxes, target, stage)
            for boxes, target in zip(refined, targets, strict=True)
        ]
        boxes = [one.proposal_boxes for one in instances]
        head = self.mask_head[stage]
        *_, x = self._mask_features(features, boxes, self.mask_head[: stage + 1])
        with get_event_storage().name_scope(f"stage{stage}"):
            return mask_rcnn_loss(head.predict(x), instances, head.vis_period) * head.loss_weight

    @torch.no_grad()
    def _foreground(self, boxes: Boxes, target: Instances, stage: int) -> Instances:
        """Choose the boxes of one image that match an object, and what they are to predict."""
        if self.proposal_append_gt:
            boxes = Boxes.cat([boxes, target.gt_boxes])
        matched, labels = self.proposal_matchers[stage](pairwise_iou(target.gt_boxes, boxes))
        chosen = (labels == 1).nonzero()[:, 0]
        limit = int(self.batch_size_per_image * self.positive_fraction)
        chosen = chosen[torch.randperm(len(chosen), device=chosen.device)[:limit]]
        instances = Instances(target.image_size)
        instances.proposal_boxes = boxes[chosen]
        instances.gt_classes = target.gt_classes[matched[chosen]]
        if target.has("gt_masks"):  # an image without objects may come without
            instances.gt_masks = target.gt_masks[matched[chosen]]
        return instances

    def _mask_features(
        self,
        features: dict[str, torch.Tensor],
        boxes: list[Boxes],
        heads: Sequence[HTCMaskHead],
    ) -> Iterator[torch.Tensor]:
        """Yield the features of each of the given mask heads, each flowing into the next."""
        x = self.mask_pooler([features[name] for name in self.mask_in_features], boxes)
        previous = None
        for head in heads:
            previous = head.convolve(x, previous)
            yield previous

    def _forward_mask(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Average the probabilities of all stages' masks on the boxes found (at test)."""
        if not self.mask_on:
            return instances
        boxes = [one.pred_boxes for one in instances]
        stages = []
        for head, x in zip(
            self.mask_head, self._mask_features(features, boxes, self.mask_head), strict=True
        ):
            mask_rcnn_inference(head.predict(x), instances)
            stages.append([one.pred_masks for one in instances])
        for one, *masks in zip(instances, *stages, strict=True):
            one.pred_masks = torch.stack(masks).mean(dim=0)
        return instances


class HybridTaskCascade(GeneralizedRCNN):
    """Detectron2's R-CNN, which hands the images' semantic maps to heads that learn from them.

    In training every input needs a ``sem_seg`` (H, W) beside ``instances``.

    Raises:
        ValueError: ``roi_heads`` of another kind, or no ``proposal_generator``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(self.roi_heads, HTCROIHeads):
            raise ValueError(
                f"roi_heads is {type(self.roi_heads).__name__}: HybridTaskCascade takes "
                "HTCROIHeads, others go with GeneralizedRCNN."
            )
        if self.proposal_generator is None:
            raise ValueError("HybridTaskCascade needs a proposal_generator.")

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Map a batch to its losses, or at test to instances; as in GeneralizedRCNN."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        targets = [one["instances"].to(self.device) for one in batched_inputs]
        features = self.backbone(images.tensor)
        proposals, losses = self.proposal_generator(images, features, targets)
        semantic_targets = self._semantic_targets(batched_inputs)
        _, head_losses = self.roi_heads(images, features, proposals, targets, semantic_targets)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return losses | head_losses

    def _semantic_targets(self, batched_inputs: list[dict[str, Any]]) -> torch.Tensor | None:
        """Pad the maps as the images are, with the value that the loss ignores."""
        branch = self.roi_heads.semantic_branch
        if branch is None or any("sem_seg" not in one for one in batched_inputs):
            return None
        return ImageList.from_tensors(
            [one["sem_seg"].to(self.device) for one in batched_inputs],
            self.backbone.size_divisibility,
            branch.ignore_value,
            self.backbone.padding_constraints,
        ).tensor
