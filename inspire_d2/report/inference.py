"""Running a run's model over its test set, for what its scoring did not save.

Shape shorthand in this module: N components, H, W (pixels of the original image).
"""

import contextlib
import copy
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from omegaconf import DictConfig
from tqdm import tqdm

from inspire_d2.engine.trained import load_trained
from inspire_d2.engine.trainer import without_nan
from inspire_d2.evaluation.polyp_masks import components, foreground_map
from inspire_d2.report.calibration import Calibration
from inspire_d2.report.run import Run, read_json
from inspire_d2.report.saved import by_image
from inspire_d2.report.truth import Item, Thing, Truth

__all__ = ["Predicted", "predict"]

VOLUMES = "volume_per_case.json"


@dataclass
class Predicted:
    """What a model said of a test set."""

    found: dict[Any, list[Thing]] = field(default_factory=dict)
    pixels: Calibration | None = None  # of a segmenter's probabilities
    evaluation: dict[str, dict[str, float | None]] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)  # rows of volume_per_case.json
    parameters: float = 0.0  # millions


def predict(
    run: Run,
    truth: Truth | None,
    *,
    checkpoint: str | None = None,
    device: str | None = None,
    score: bool = True,
) -> Predicted:
    """Run a model over its test set with a progress bar; nothing is written to the run's folder.

    Args:
        run: its newest checkpoint is taken, unless one is named.
        truth: of a test set of images; None for volumes, of which only scores are kept.
        checkpoint: a file of weights.
        device: such as "cpu"; None takes the GPU if there is one.
        score: let the config's evaluators judge the predictions as well.

    Raises:
        InputError: there is no checkpoint, it does not fit, or the data cannot be used.
    """
    with _quiet():
        cfg, model = load_trained(run.folder, checkpoint=checkpoint, device=device)
        cfg.dataloader.test = run.cfg.dataloader.test
        cfg.dataloader.evaluator = run.cfg.dataloader.evaluator
        loader = instantiate(cfg.dataloader.test)
    collector = None if truth is None else _Collector(truth, run.threshold)
    with tempfile.TemporaryDirectory(prefix="inspire_d2_report_") as folder:
        evaluator = _evaluator(cfg, folder) if score else None
        for inputs, outputs in _outputs(model, loader, str(run.folder)):
            if evaluator is not None:
                evaluator.process(inputs, outputs)
            if collector is not None:
                collector.add(inputs, outputs)
        predicted = Predicted()
        if collector is not None:
            predicted.found, predicted.pixels = collector.found, collector.pixels
        if evaluator is not None:
            with _quiet():
                predicted.evaluation = without_nan(evaluator.evaluate() or {})
            predicted.volumes = read_json(Path(folder) / VOLUMES) or []
    predicted.parameters = sum(p.numel() for p in model.parameters()) / 1e6
    return predicted


def _outputs(
    model: torch.nn.Module, loader: Any, name: str
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    bar = tqdm(
        loader,
        desc=f"predicting {name}",
        unit="image" if getattr(loader, "batch_size", 1) in (None, 1) else "batch",
        mininterval=0.5 if sys.stderr.isatty() else 10,
    )
    with torch.no_grad():
        for inputs in bar:
            with _quiet():
                outputs = model(inputs)
            yield inputs, outputs


class _Collector:
    """Keeps of each output what the report shows."""

    def __init__(self, truth: Truth, threshold: float) -> None:
        self._truth, self._threshold = truth, threshold
        self.found: dict[Any, list[Thing]] = {}
        self.pixels: Calibration | None = None
        self._ids = sorted(truth.categories)  # by the model's classes

    def add(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for item, output in zip(inputs, outputs, strict=True):
            if item["image_id"] not in self._truth.items:
                continue
            image = self._truth.items[item["image_id"]]
            if "instances" in output:
                results = instances_to_coco_json(output["instances"].to("cpu"), image.id)
                results = [
                    one | {"category_id": self._ids[one["category_id"]]}
                    for one in results
                    if one["category_id"] < len(self._ids)
                ]
                self.found[image.id] = by_image(results, self._truth)[image.id]
            elif "sem_seg" in output:
                self._add_map(image, output["sem_seg"])

    def _add_map(self, image: Item, logits: torch.Tensor) -> None:
        record = {"height": image.height, "width": image.width, "file_name": image.name}
        probability = foreground_map(logits, record)
        category = self._ids[0] if self._ids else 1
        self.found[image.id] = [
            _thing(mask, float(probability[mask].max()), category)
            for mask in components(probability, self._threshold)
        ]
        true, crowd = np.zeros((2, *probability.shape), bool)
        for thing in image.things:
            if thing.mask is not None:
                (crowd if thing.crowd else true)[mask_util.decode(thing.mask) > 0] = True
        counts = true | ~crowd
        self.pixels = self.pixels or Calibration("pixels")
        self.pixels.add(probability[counts], true[counts])


def _thing(mask: np.ndarray, score: float, category: int) -> Thing:
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Thing(category, [float(value) for value in mask_util.toBbox(rle)], rle, score)


def _evaluator(cfg: DictConfig, folder: str) -> DatasetEvaluator:
    """Make the config's evaluator, which writes into a folder of its own."""
    cfg = copy.deepcopy(cfg)
    cfg.train.output_dir = folder
    with _quiet():
        evaluator = instantiate(cfg.dataloader.evaluator)
    evaluator.reset()
    return evaluator


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries print, and their notes below an error, out of the progress bar's way."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
