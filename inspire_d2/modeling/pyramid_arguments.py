"""What InspireFPN's arguments may be; each error says what is wrong and what to write instead."""

import logging
import math
from collections.abc import Sequence
from itertools import pairwise

from detectron2.modeling import Backbone
from torch import nn

from .isa import ALIGN

__all__ = ["check_choices", "check_features", "check_outputs", "check_steps"]

logger = logging.getLogger(__name__)

CHOICES = {"align": tuple(ALIGN), "feedback": ("shared", "separate"), "fuse_type": ("sum", "avg")}


def check_choices(**arguments: str) -> None:
    """Raise ValueError where an argument is none of the words that it may be."""
    for name, value in arguments.items():
        if value not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}, got {value!r}.")


def check_steps(steps: int, gradient_steps: int, feedback: str) -> None:
    """Raise ValueError unless there are steps, and gradients through those that must learn."""
    check_choices(feedback=feedback)
    if type(steps) is not int or steps < 1:
        raise ValueError(f"steps must be a whole number from 1 up, got {steps!r}.")
    if type(gradient_steps) is not int or not 1 <= gradient_steps <= steps:
        raise ValueError(
            f"gradient_steps must be None or a whole number within 1..{steps}, the steps, "
            f"got {gradient_steps!r}."
        )
    if gradient_steps < steps and feedback == "separate":
        raise ValueError(
            f"gradient_steps must be None or {steps}, all steps, with feedback='separate': the "
            "bottom-up's own later stages run in the first step alone, and would never learn."
        )


def check_features(bottom_up: Backbone, names: Sequence[str], top_block: nn.Module | None) -> None:
    """Raise ValueError unless the bottom-up has the features that are read, of strides in order."""
    if len(names) < 2:
        raise ValueError(f"in_features must name two levels or more, got {list(names)}.")
    shapes = bottom_up.output_shape()
    unknown = [name for name in names if name not in shapes]
    if unknown:
        raise ValueError(
            f"in_features names {unknown[0]}, but the bottom-up gives {', '.join(shapes)}."
        )
    strides = [shapes[name].stride for name in names]
    if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
        raise ValueError(f"in_features must be of strides that double, got {names}, {strides}.")
    read = None if top_block is None else top_block.in_feature
    outputs = [f"p{int(math.log2(stride))}" for stride in strides]
    if read is not None and read not in (*outputs, *shapes):
        raise ValueError(f"top_block reads {read}, which is none of {', '.join(outputs)}.")


def check_outputs(
    wanted: Sequence[str],
    offered: Sequence[str],
    *,
    top: Sequence[str],
    read: str | None,
    finest: str | None,
) -> None:
    """Raise ValueError unless the wanted outputs are offered, with the one the top block reads.

    Those of the ``top`` block must be wanted together: what makes one alone cannot be left out.

    Warn where the ``finest``, if it is given, is not wanted: as gradients go through one step
    alone, what is its own never learns.
    """
    if not wanted or not set(wanted) <= set(offered):
        raise ValueError(
            f"out_features must name some of {', '.join(offered)}, got {list(wanted)}."
        )
    if set(top) & set(wanted) and not set(top) <= set(wanted):
        raise ValueError(
            f"out_features must name all of the top block's {', '.join(top)} or none, got "
            f"{list(wanted)}."
        )
    if read in offered and read not in wanted:
        raise ValueError(f"the top block reads {read}: name it in out_features too.")
    if finest is not None and finest not in wanted:
        logger.warning(
            "out_features lacks %s, the finest level, whose own parts never learn with gradients "
            "through one step alone, which training on several GPUs takes for an error: name it, "
            "or leave it out of in_features.",
            finest,
        )
