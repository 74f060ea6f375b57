"""A trained model as a function: from images to predictions at the images' own size.

Shape shorthand in this module: N predictions, K classes, H, W (pixels of the original image).
"""

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image as read_with_detectron2
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

from inspire_d2.data.coco_checks import read_coco
from inspire_d2.data.images import check_image_header, unreadable
from inspire_d2.engine.device import resolve_device
from inspire_d2.engine.trained import load_trained
from inspire_d2.errors import InputError

__all__ = ["Predictor", "load", "read_image"]

ImageLike = np.ndarray | str | os.PathLike
ORDERS = ("RGB", "BGR")
# Of an image file, and of all masks of an image, of which each has as many bytes as it has pixels:
# 100 detections of up to 2 million pixels, the best 5 of 40 million
MAX_PIXELS, MASK_BYTES = 40_000_000, 200_000_000


def load(
    run_or_config: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    device: str | None = None,
    *,
    channel_order: str = "RGB",
    batch_size: int = 8,
) -> "Predictor":
    """Load a trained model to call on images.

    Args:
        run_or_config: the output folder of a run of train_net.py, or a config file.
        checkpoint: a file of weights; None takes the run's newest. A config file needs one.
        device: such as "cpu" or "cuda:1"; None takes the GPU if there is one, else the CPU.
        channel_order, batch_size: see :class:`Predictor`.

    Raises:
        InputError: there is no such run or checkpoint, they do not fit, or it takes no images.
    """
    cfg, model = load_trained(
        Path(run_or_config),
        checkpoint=None if checkpoint is None else os.fspath(checkpoint),
        device=resolve_device(device),
    )
    return Predictor(cfg, model, channel_order=channel_order, batch_size=batch_size)


class Predictor:
    """A model that takes images as they are, and predicts as it does when train_net.py scores it.

    Images go through the augmentations of the config's ``dataloader.test.mapper``, in the channel
    order of its ``image_format``. Only images that then have one size share a batch: none is
    padded for another's sake, so none's prediction depends on which others are given with it.
    """

    def __init__(
        self, cfg: DictConfig, model: nn.Module, *, channel_order: str = "RGB", batch_size: int = 8
    ) -> None:
        """Wrap a model in eval mode.

        Args:
            cfg: the config that it was trained with.
            model: on its device.
            channel_order: "RGB" or "BGR", of the arrays that it will be called on; OpenCV reads
                BGR, Pillow RGB.
            batch_size: images at a time, of a list of any length.

        Raises:
            InputError: an argument is out of range, or the model was not trained on images.
        """
        if channel_order not in ORDERS:
            raise InputError(f"channel_order={channel_order!r} must be RGB or BGR.")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size={batch_size!r} must be a whole number from 1 up.")
        mapper = instantiate(OmegaConf.select(cfg, "dataloader.test.mapper"))
        if not isinstance(mapper, DatasetMapper) or mapper.image_format not in ORDERS:
            raise InputError(
                "the model was not trained on images of three channels (dataloader.test.mapper is "
                f"a {type(mapper).__name__}); tools/predict_mri.py takes volumes."
            )
        self.cfg, self.model = cfg, model
        self.channel_order, self.batch_size = channel_order, batch_size
        self.augmentations, self.model_order = mapper.augmentations, mapper.image_format

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Any:
        """Predict one image, or each of a list.

        Args:
            images: an array uint8 (H, W, 3) in ``channel_order``, a path, or a list of those.

        Returns:
            For one image, or in a list for a list, on the CPU: of a detector Detectron2's
            ``Instances``, the best first, with ``pred_boxes``, ``scores``, ``pred_classes`` and,
            where it has a mask head, ``pred_masks`` (N, H, W); of a segmenter float32 (H, W), the
            foreground's probability, or (K, H, W) of its classes where they are more than two.

        Raises:
            InputError: an image cannot be read, or is of another shape or type.
        """
        if not isinstance(images, list | tuple):
            return self.predict([self.prepare(images)])[0]
        results = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            results += self.predict([self.prepare(image) for image in batch])
        return results

    def prepare(self, image: ImageLike) -> dict[str, Any]:
        """Return what the model takes of one image, {"image": (3, h, w), "height", "width"}.

        Raises:
            InputError: it cannot be read, or is of another shape or type.
        """
        if isinstance(image, str | os.PathLike):
            pixels = read_image(image, self.model_order)
        else:
            _check_array(image)
            pixels = image if self.channel_order == self.model_order else image[:, :, ::-1]
        height, width = pixels.shape[:2]
        transformed = T.AugInput(pixels)
        try:
            self.augmentations(transformed)
        except Exception as error:  # whatever a transform raises on a size that it cannot make
            raise InputError(
                f"an image of {width}x{height} cannot be brought to the size that the model takes "
                f"({error})"
            ) from error
        chw = np.ascontiguousarray(transformed.image.transpose(2, 0, 1))
        return {"image": torch.as_tensor(chw), "height": height, "width": width}

    @functools.cached_property
    def categories(self) -> list[dict[str, Any]]:
        """COCO's id and name of each class, in the order of ``pred_classes``.

        They are those of the test set where its json is there or Detectron2 knows them, else 1 and
        on.
        """
        number = OmegaConf.select(self.cfg, "model.roi_heads.num_classes")
        number = number or OmegaConf.select(self.cfg, "model.num_classes") or 1
        dataset = self.cfg.dataloader.test.dataset
        if dataset.get("json_file"):
            with contextlib.suppress(InputError):  # the run may be used where its data is not
                rows = sorted(read_coco(dataset.json_file)["categories"], key=lambda one: one["id"])
                if len(rows) == number:
                    return [{"id": one["id"], "name": one["name"]} for one in rows]
        known = MetadataCatalog.get(str(dataset.get("name") or dataset.get("names")))
        names = known.get("thing_classes") or ()
        ids = known.get("thing_dataset_id_to_contiguous_id") or {k + 1: k for k in range(number)}
        if len(names) != number:  # the model is of another set's classes
            names = ["polyp"] if number == 1 else [f"class {k + 1}" for k in range(number)]
            ids = {k + 1: k for k in range(number)}
        return [{"id": i, "name": names[k]} for i, k in sorted(ids.items(), key=lambda one: one[1])]

    @torch.no_grad()
    def predict(self, items: Sequence[dict[str, Any]]) -> list[Any]:
        """Predict what :meth:`prepare` made of images, those of one size in one batch."""
        by_size: dict[torch.Size, list[int]] = {}
        for index, item in enumerate(items):
            by_size.setdefault(item["image"].shape, []).append(index)
        results: list[Any] = [None] * len(items)
        for indices in by_size.values():
            outputs = self._outputs([items[index] for index in indices])
            for index, output in zip(indices, outputs, strict=True):
                results[index] = self._result(output)
        return results

    def _outputs(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # Not its forward: HybridTaskCascade has one of its own, for training
        if getattr(type(self.model), "inference", None) is not GeneralizedRCNN.inference:
            return self.model(batch)
        # As it does itself, but for how many masks are stretched to the size of a large image.
        outputs = []
        for item, found in zip(
            batch, self.model.inference(batch, do_postprocess=False), strict=True
        ):
            height, width = item["height"], item["width"]
            if found.has("pred_masks"):
                found = found[: max(5, MASK_BYTES // (height * width))]
            outputs.append({"instances": detector_postprocess(found, height, width)})
        return outputs

    def _result(self, output: dict[str, Any]) -> Instances | np.ndarray:
        if "instances" in output:
            return output["instances"].to("cpu")
        if "sem_seg" not in output:
            raise InputError(f"the model predicts {', '.join(output)}, not instances or sem_seg.")
        logits = output["sem_seg"].float()
        loss = getattr(getattr(self.model, "sem_seg_head", None), "loss", None)
        if hasattr(loss, "probabilities"):  # of regions, without the background
            probabilities = loss.probabilities(logits[None])[0]
        else:
            probabilities = logits.softmax(dim=0)
            if len(probabilities) == 2:
                probabilities = 1 - probabilities[:1]  # as the evaluation has it, to the last bit
        return (probabilities[0] if len(probabilities) == 1 else probabilities).cpu().numpy()


def read_image(path: str | os.PathLike, channel_order: str = "RGB") -> np.ndarray:
    """Read an image file as the model's data loader does, upright by its EXIF: uint8 (H, W, 3).

    Grey images get three equal channels, transparency is dropped.

    Raises:
        InputError: it cannot be read, has more than 8 bits per pixel, or too many pixels.
    """
    path = os.fspath(path)
    try:
        check_image_header(path)
        with Image.open(path) as image:
            width, height = image.size
        if width * height <= MAX_PIXELS:
            return read_with_detectron2(path, channel_order)
        raise InputError(
            f"image {path} has {width}x{height} pixels, more than {MAX_PIXELS / 1e6:.0f} million, "
            "for which masks of that size would fill the memory: scale it down."
        )
    except InputError as error:
        if error.__cause__ is None:  # of its pixels; else of the file, where an annotation names it
            raise
        reason = unreadable(error.__cause__)
    except Exception as error:  # a broken file can make Pillow raise anything
        reason = unreadable(error)
    raise InputError(f"image {path} cannot be read ({reason}).")


def _check_array(image: Any) -> None:
    """Raise InputError unless an image is uint8 (H, W, 3)."""
    wanted = "an image must be a path or an array uint8 (H, W, 3)"
    if not isinstance(image, np.ndarray):
        raise InputError(f"{wanted}, got {type(image).__name__}.")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        grey = image.ndim == 2 or image.shape[2:] == (1,)
        hint = "repeat a grey channel three times" if grey else "three channels, no transparency"
        raise InputError(f"{wanted}, got the shape {image.shape}: {hint}.")
    if image.dtype != np.uint8:
        raise InputError(f"{wanted}, got {image.dtype}: scale it to 0..255 and convert it.")
