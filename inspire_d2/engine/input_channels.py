"""Pretrained weights for images of other channels than those that they were trained on."""

import logging
from typing import Any

import torch
from torch import nn

__all__ = ["fit_input_channels"]

logger = logging.getLogger(__name__)

# A ResNet's first convolution, as Detectron2 and as Caffe2 names it.
FIRST = ("stem.conv1.weight", "conv1_w")


def fit_input_channels(weights: dict[str, Any], model: nn.Module) -> None:
    """Let the first convolution in a checkpoint take the model's number of channels C.

    Its weights (out, in, h, w), tensors or arrays, are replaced in ``weights``: each of the C
    channels gets the mean over the old ones, times in / C, so that the response to an image whose
    channels are all equal stays what it was. Nothing changes where C is the old number, or where
    the model has no such convolution.
    """
    wanted = [v for name, v in model.state_dict().items() if name.endswith(FIRST[0])]
    # A backbone has one; where there were more, no one could tell which the checkpoint's is.
    if len(wanted) != 1:
        return
    channels = wanted[0].shape[1]
    for name, weight in weights.items():
        if name.endswith(FIRST) and len(weight.shape) == 4 and weight.shape[1] != channels:
            tensor = torch.as_tensor(weight)
            mean = tensor.mean(dim=1, keepdim=True) * (tensor.shape[1] / channels)
            weights[name] = mean.repeat(1, channels, 1, 1)
            logger.info(
                "%s: trained on %d channels, averaged and repeated to take %d.",
                name,
                tensor.shape[1],
                channels,
            )
