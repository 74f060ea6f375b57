"""Training with a norm of its own everywhere, in place of frozen batch norms."""

from collections.abc import Callable

from omegaconf import DictConfig


def set_norm(model: DictConfig, norm: str, roi_norm: str | Callable) -> None:
    """Put a norm into bottom-up, pyramid and RoI heads, as Detectron2's GN and SyncBN configs do.

    The box head then has 4 convolutions and one linear layer.
    """
    for part in (model.backbone.bottom_up.stem, model.backbone.bottom_up.stages, model.backbone):
        part.norm = norm
    heads = model.roi_heads
    heads.box_head.update(conv_dims=[256, 256, 256, 256], fc_dims=[1024], conv_norm=roi_norm)
    heads.mask_head.conv_norm = roi_norm
