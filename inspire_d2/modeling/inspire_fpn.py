"""InspireFPN: the INSPIRE pyramid with the interface of Detectron2's FPN."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..layout import suit_convolutions
from .isa import ALIGN, AdaptiveFusion, DeformAlign
from .ise import FeatureEnhancement
from .pixelwise import PixelwiseConv2d, pixelwise_order
from .pyramid_arguments import check_choices, check_features, check_outputs, check_steps
from .ssba import BackAugmentation, feedback_order
from .staged import (
    copy_stages,
    forget_casts,
    keep_statistics,
    stage_names_after,
    warn_of_batch_norms,
)

__all__ = ["InspireFPN"]

MIN_HIDDEN = 8


# What a step makes: the bottom-up's features, and the pyramid's maps, fine to coarse.
Step = tuple[dict[str, torch.Tensor], list[torch.Tensor]]


class InspireFPN(FPN):
    """A feature pyramid that enriches, aligns and feeds back; it begins as the FPN it extends.

    Each step builds a pyramid top-down: R_j = lateral_j(C_j) + F_fe(C_j) (ISE), then
    P_j = F_af(align(P_{j+1}, R_j), R_j) (ISA). Between two steps, SSBA feeds P_j back into C_j
    and the bottom-up's later stages run again on the result. Output convolutions and the top
    block run once, after the last step.

    The lateral and output convolutions carry FPN's names, so that FPN checkpoints load; with
    them, outputs equal that FPN's until training moves the new parameters.

    Source: INSPIRE (doi 10.1016/j.cmpb.2025.108705).
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
        *,
        steps: int = 2,
        ise: bool = True,
        align: str = "flow",
        feedback: str = "shared",
        gradient_steps: int | None = None,
        checkpoint_steps: bool = False,
        out_features: Sequence[str] | None = None,
    ) -> None:
        """Build the pyramid on ``bottom_up``; the first seven arguments are FPN's own.

        Args:
            in_features: two or more features of strides that double, fine to coarse.
            steps: pyramids built, each but the first on fed-back features; 1 leaves SSBA out.
            ise: whether F_fe stands beside the lateral convolution.
            align: how a coarse map is laid on the finer one: "flow", "deform" or "none".
            feedback: whether later steps run the bottom-up's own stages ("shared") or a copy
                of them that starts from the same weights ("separate").
            gradient_steps: the last steps that gradients pass through, None for all. The others run
                forward alone, which trains faster and with less memory, to the same outputs.
            checkpoint_steps: keep no maps of SSBA and of the steps before the last for the backward
                pass, but compute them anew there: less memory, more time, the same gradients
                and statistics. With trainable batch norms it cannot be compiled.
            out_features: the outputs that are wanted, such as a U-Net's finest; None offers all.
                The others' convolutions are left out, and the top block where none is its.

        Raises:
            ValueError: an argument out of its range.
            StagedBottomUpError: steps > 1 on a bottom-up that does not show its stages.
        """
        in_features = list(in_features)
        gradient_steps = steps if gradient_steps is None else gradient_steps
        check_steps(steps, gradient_steps, feedback)
        check_choices(align=align, fuse_type=fuse_type)
        check_features(bottom_up, in_features, top_block)
        super().__init__(
            bottom_up, in_features, out_channels, norm, top_block, fuse_type, square_pad
        )
        shapes = bottom_up.output_shape()
        self._levels = [int(math.log2(shapes[name].stride)) for name in in_features]
        self._steps, self._ise, self._feedback = steps, ise, feedback
        self._forward_steps = steps - gradient_steps
        self._checkpoint_steps = checkpoint_steps
        self._recomputing = {}
        if any(isinstance(module, _BatchNorm) for module in self.modules()):
            # They have counted the batch when a step is run again. torch.compile takes no such.
            self._recomputing = {"context_fn": self._recomputing_contexts}
        self.lateral_convs = [PixelwiseConv2d.of(conv) for conv in self.lateral_convs]
        for level, conv in zip(reversed(self._levels), self.lateral_convs, strict=True):
            self.add_module(f"fpn_lateral{level}", conv)
        # The random stream goes on as after FPN's construction: with one seed, what FPN's model
        # and this one have in common begins with the same weights.
        with torch.random.fork_rng(devices=[]):
            self._add_parts(out_channels, align)
        if out_features is not None:
            self._leave_out_outputs(out_features)
        if steps > 1:
            self._prepare_feedback()

    def _leave_out_outputs(self, wanted: Sequence[str]) -> None:
        """Offer the outputs that are wanted alone, without what makes the others."""
        top = self._out_features[len(self._levels) :]
        if not set(wanted) & set(top):
            self.top_block = None
        learns_once = self._steps - self._forward_steps == 1
        check_outputs(
            wanted,
            self._out_features,
            top=top,
            read=getattr(self.top_block, "in_feature", None),
            finest=f"p{self._levels[0]}" if learns_once else None,
        )
        for level in self._levels:
            if f"p{level}" not in wanted:
                self.output_convs.remove(getattr(self, f"fpn_output{level}"))
                delattr(self, f"fpn_output{level}")
        self._out_features = [name for name in self._out_features if name in wanted]

    def _add_parts(self, out_channels: int, align: str) -> None:
        """Add each level's ISE, SSBA and ISA."""
        shapes = self.bottom_up.output_shape()
        finest = max(out_channels // 4, MIN_HIDDEN)
        for depth, (name, level) in enumerate(zip(self.in_features, self._levels, strict=True)):
            channels = shapes[name].channels
            # Twice the channels where there are a quarter of the pixels, as in a ResNet.
            hidden = min(finest * 2**depth, max(out_channels, MIN_HIDDEN))
            if self._ise:
                self.add_module(f"ise{level}", FeatureEnhancement(channels, out_channels, hidden))
            if self._steps > 1:
                self.add_module(f"ssba{level}", BackAugmentation(out_channels, channels, hidden))
            if level != self._levels[-1]:
                aligner = ALIGN[align]
                self.add_module(
                    f"align{level}", aligner() if align == "none" else aligner(out_channels)
                )
                self.add_module(f"fusion{level}", AdaptiveFusion(out_channels))

    def _prepare_feedback(self) -> None:
        """Find the stages that later steps run, and copy them if they are to be separate."""
        needed = list(self.in_features)
        top_feature = getattr(self.top_block, "in_feature", None)
        if top_feature in self.bottom_up.output_shape():
            # The top block may read a deeper feature than the pyramid does.
            needed.append(top_feature)
        self._feedback_names = stage_names_after(self.bottom_up, self.in_features[0], needed)
        self._copied_names = []
        if self._feedback == "separate":
            # Not a deeper one: the first step has no use for it, so that its own would never learn.
            deepest = stage_names_after(self.bottom_up, self.in_features[0], self.in_features)
            self._copied_names = deepest
            # Not a container: a dotted name such as "feedback.res3.0.conv1" would end like the
            # bottom-up's own, and Detectron2 matches ImageNet weights by the ends of names.
            for name, stage in copy_stages(self.bottom_up, self._copied_names).items():
                self.add_module(f"feedback_{name}", stage)
            self._register_load_state_dict_pre_hook(self._start_feedback_from_bottom_up)
        shared = [name for name in self._feedback_names if name not in self._copied_names]
        warn_of_batch_norms(self.bottom_up, shared)
        warn_of_batch_norms(self, [f"fpn_lateral{level}" for level in self._levels])

    def _start_feedback_from_bottom_up(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *_: object
    ) -> None:
        """Give separate stages that a checkpoint lacks the weights of the bottom-up's own."""
        for name in self._copied_names:
            own, source = f"{prefix}feedback_{name}.", f"{prefix}bottom_up.{name}."
            if not any(key.startswith(own) for key in state_dict):
                copied = {
                    own + key[len(source) :]: value.clone()
                    for key, value in state_dict.items()
                    if key.startswith(source)
                }
                state_dict.update(copied)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map images (N, C, H, W) to {"p2": (N, d, H/4, W/4), ...}, fine to coarse.

        H and W may be any size: a level has its stride's share of them, rounded up, as padded
        convolutions of stride 2 make it.
        """
        features, pyramid = self._run_step(1, self._first_step, x)
        if self._steps > 1:
            # All that later steps need of the first pass; the rest need not stay in memory.
            early = {k: v for k, v in features.items() if k not in self._feedback_names}
            for step in range(2, self._steps + 1):
                del features
                features, pyramid = self._run_step(step, self._later_step, pyramid, early)
        outputs = {}
        for level, feature in zip(self._levels, pyramid, strict=True):
            if f"p{level}" in self._out_features:
                output = getattr(self, f"fpn_output{level}")
                outputs[f"p{level}"] = output(suit_convolutions(feature))
        if self.top_block is not None:
            source = (outputs | features)[self.top_block.in_feature]
            for level, feature in enumerate(self.top_block(source), self._levels[-1] + 1):
                outputs[f"p{level}"] = feature
        return {name: outputs[name] for name in self._out_features}

    def _run_step(self, number: int, step: Callable[..., Step], *inputs: Any) -> Step:
        """Run a step, forward alone or letting its maps go until the backward pass if so wanted."""
        if 1 < number <= self._forward_steps:
            with torch.no_grad():
                made = step(*inputs)
            forget_casts()
            return made
        learns_before_last = self._forward_steps < number < self._steps
        if self._checkpoint_steps and learns_before_last and torch.is_grad_enabled():
            return checkpoint(step, *inputs, use_reentrant=False, **self._recomputing)
        return step(*inputs)

    def _recomputing_contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), keep_statistics(self)

    def _first_step(self, x: torch.Tensor) -> Step:
        features = dict(self.bottom_up(x))
        if self._steps > 1:
            # Once for all later steps.
            features[self.in_features[0]] = feedback_order(features[self.in_features[0]])
        if not self._forward_steps or not torch.is_grad_enabled():
            return features, self._build_pyramid(features)
        # The last step learns by the finest level's feature and by what comes before it.
        for name in features.keys() & set(self._feedback_names):
            features[name] = features[name].detach()
        with torch.no_grad():
            pyramid = self._build_pyramid(features)
        forget_casts()
        return features, pyramid

    def _later_step(self, pyramid: list[torch.Tensor], early: dict[str, torch.Tensor]) -> Step:
        features = self._feed_back(pyramid, early)
        return features, self._build_pyramid(features)

    def _build_pyramid(self, features: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Enrich every level (ISE), then align and fuse from coarse to fine (ISA).

        The maps are channels last: they are read pixel by pixel (gather.py, pixelwise.py).
        """
        coarser, pyramid = None, []
        for name, level, lateral in zip(
            reversed(self.in_features), reversed(self._levels), self.lateral_convs, strict=True
        ):
            feature = pixelwise_order(features[name])
            resident = lateral(feature)
            if self._ise:
                resident = getattr(self, f"ise{level}")(feature, onto=resident)
            if coarser is not None:
                resident = self._align_and_fuse(level, coarser, resident)
                if self._fuse_type == "avg":
                    resident = resident / 2
            coarser = resident
            pyramid.insert(0, coarser)
        return pyramid

    def _align_and_fuse(
        self, level: int, coarse: torch.Tensor, resident: torch.Tensor
    ) -> torch.Tensor:
        align, fusion = getattr(self, f"align{level}"), getattr(self, f"fusion{level}")
        if isinstance(align, DeformAlign):
            return fusion(align(coarse, resident), resident)
        return fusion.fuse_aligned(align, coarse, resident)

    def _feed_back(
        self, pyramid: list[torch.Tensor], early: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Run the bottom-up again from its finest level, augmented with the pyramid (SSBA).

        ``early`` are the features up to that level, which see the image alone: once is enough.
        """
        levels = dict(zip(self.in_features, zip(self._levels, pyramid, strict=True), strict=True))
        features = dict(early)
        name = self.in_features[0]
        feature = features[name] = self._augment(levels[name], early[name])
        for name in self._feedback_names:
            feature = self._feedback_stage(name)(suit_convolutions(feature))
            if name in levels:
                feature = self._augment(levels[name], feature)
            features[name] = feature
        return features

    def _augment(self, level: tuple[int, torch.Tensor], feature: torch.Tensor) -> torch.Tensor:
        augment = getattr(self, f"ssba{level[0]}")
        if self._checkpoint_steps and torch.is_grad_enabled():
            # In the last step too: its maps are many, and cheap to compute anew.
            return checkpoint(augment, level[1], feature, use_reentrant=False)
        return augment(level[1], feature)

    def _feedback_stage(self, name: str) -> nn.Module:
        if name in self._copied_names:
            return getattr(self, f"feedback_{name}")
        return getattr(self.bottom_up, name)
