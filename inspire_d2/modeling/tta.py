"""Test-time augmentation for R-CNNs of LazyConfigs."""

from collections.abc import Sequence

from detectron2.config import get_cfg
from detectron2.modeling import GeneralizedRCNN, PanopticFPN
from detectron2.modeling.test_time_augmentation import DatasetMapperTTA, GeneralizedRCNNWithTTA
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError

__all__ = ["RCNNWithTTA"]


class RCNNWithTTA(GeneralizedRCNNWithTTA):
    """Detectron2's test-time augmentation, which asks the model for what a yaml config would tell.

    Boxes found in the image at each size, flipped and not, are put together by NMS; masks of what
    is left are averaged over all. Works for Mask, Faster and Cascade R-CNN and HTC. Give it images
    of their own size (a test mapper without augmentations), else it resizes what was resized.

    Args:
        model: in evaluation mode.
        short_edge_lengths: sizes in pixels, each of which the image is scaled to.
        max_size: limit of the longer edge.
        flip: whether each is also flipped left to right.
        batch_size: images of the several sizes that are run together.

    Raises:
        InputError: the model is no R-CNN, or one of panoptic maps or keypoints, which Detectron2
            does not put together; sizes that are no whole numbers from 1 up, or none.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        short_edge_lengths: Sequence[int],
        max_size: int,
        flip: bool = True,
        batch_size: int = 3,
    ) -> None:
        detector = model.module if isinstance(model, DistributedDataParallel) else model
        if not isinstance(detector, GeneralizedRCNN) or isinstance(detector, PanopticFPN):
            raise InputError(
                "test-time augmentation is for R-CNNs (Faster, Mask, Cascade, HTC), not for a "
                f"{type(detector).__name__}: set train.tta.enabled=False."
            )
        lengths = list(short_edge_lengths)
        if not lengths or not all(map(_is_count, lengths)):
            raise InputError(
                f"train.tta.wrapper.short_edge_lengths={lengths} must be whole numbers from 1 up,"
                " one at least."
            )
        for name, value in (("max_size", max_size), ("batch_size", batch_size)):
            if not _is_count(value):
                raise InputError(
                    f"train.tta.wrapper.{name}={value!r} must be a whole number from 1 up."
                )
        heads = detector.roi_heads
        if getattr(heads, "keypoint_on", False):
            raise InputError("test-time augmentation is not for models of keypoints.")
        # Cascades decide by their last stage.
        predictor = heads.box_predictor
        predictor = predictor[-1] if isinstance(predictor, nn.ModuleList) else predictor
        cfg = get_cfg()
        cfg.MODEL.MASK_ON = bool(heads.mask_on)
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = heads.num_classes
        cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = predictor.test_nms_thresh
        cfg.TEST.DETECTIONS_PER_IMAGE = predictor.test_topk_per_image
        mapper = DatasetMapperTTA(lengths, max_size, flip)
        super().__init__(cfg, detector, mapper, batch_size)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1
