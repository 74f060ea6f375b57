"""Semantic segmentation from instance annotations: every annotated pixel is its class."""

from typing import Any

import torch

from inspire_d2.data.mapper import CheckedMapper

__all__ = ["SemanticMapper"]


class SemanticMapper(CheckedMapper):
    """Detectron2's mapper, whose ``instances`` become ``sem_seg``: 0 is background, k + 1 class k.

    Takes DatasetMapper's arguments; masks are bitmasks. Where instances overlap the later one
    counts. ``sem_seg`` is (H, W), int64, of the transformed image.
    """

    def __init__(self, is_train: bool, **kwargs: Any) -> None:
        super().__init__(is_train, use_instance_mask=True, instance_mask_format="bitmask", **kwargs)

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one image of the data set to what SemanticSegmentor takes."""
        mapped = super().__call__(dataset_dict)
        if not self.is_train:
            return mapped
        instances = mapped.pop("instances", None)
        sem_seg = torch.zeros(mapped["image"].shape[1:], dtype=torch.int64)
        # An image without annotations has no masks at all.
        if instances is not None and instances.has("gt_masks"):
            for mask, label in zip(instances.gt_masks.tensor, instances.gt_classes, strict=True):
                sem_seg[mask] = label + 1
        mapped["sem_seg"] = sem_seg
        return mapped
