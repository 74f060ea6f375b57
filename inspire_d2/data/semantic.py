"""Semantic segmentation from instance annotations: every annotated pixel is its class.

Those of crowds, in which objects are not told apart and may leave gaps, do not count.
"""

from typing import Any

import detectron2.data.transforms as T
import torch
from detectron2.data import detection_utils

from inspire_d2.data.mapper import CheckedMapper

__all__ = ["SemanticMapper"]


class SemanticMapper(CheckedMapper):
    """Detectron2's mapper, whose ``instances`` become ``sem_seg``: 0 is background, k + 1 class k.

    Takes DatasetMapper's arguments; masks are bitmasks. Where instances overlap the later one
    counts; regions of crowds beside them are ``ignore_value``, which must be the head's.
    ``sem_seg`` is (H, W), int64, of the transformed image.
    """

    def __init__(self, is_train: bool, *, ignore_value: int = 255, **kwargs: Any) -> None:
        super().__init__(is_train, use_instance_mask=True, instance_mask_format="bitmask", **kwargs)
        self.ignore_value = ignore_value

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one image of the data set to what SemanticSegmentor takes."""
        mapped = super().__call__(dataset_dict)
        if not self.is_train:
            return mapped
        crowds, instances = mapped.pop("crowds", None), mapped.pop("instances", None)
        sem_seg = torch.zeros(mapped["image"].shape[1:], dtype=torch.int64)
        # An image without annotations has no masks at all.
        if crowds is not None and crowds.has("gt_masks"):
            sem_seg[crowds.gt_masks.tensor.any(dim=0)] = self.ignore_value
        if instances is not None and instances.has("gt_masks"):
            for mask, label in zip(instances.gt_masks.tensor, instances.gt_classes, strict=True):
                sem_seg[mask] = label + 1
        mapped["sem_seg"] = sem_seg
        return mapped

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        """Keep the crowds, which Detectron2 leaves out."""
        crowds = [
            detection_utils.transform_instance_annotations(
                {key: value for key, value in one.items() if key != "keypoints"},
                transforms,
                image_shape,
            )
            for one in dataset_dict["annotations"]
            if one.get("iscrowd", 0) and one.get("segmentation")
        ]
        dataset_dict["crowds"] = detection_utils.annotations_to_instances(
            crowds, image_shape, mask_format="bitmask"
        )
        super()._transform_annotations(dataset_dict, transforms, image_shape)
