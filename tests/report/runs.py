"""Runs without a training: drawn images, made-up predictions, the project's evaluators."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.evaluation import DatasetEvaluators
from detectron2.structures import BitMasks, Instances

from inspire_d2.data.polyp import polyp_dataset
from inspire_d2.data.synthetic import make_image
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.evaluation import InspireCOCOEvaluator, PolypEvaluator

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HOSTILE = ['<img src=x onerror="alert(1)">.jpg', "<script>alert('2')<script>&amp;$x$.jpg"]
HOSTILE_CENTRE = "</td><script>alert(3)</script>$y$"
LOG = """\
[11/24 20:54:33] detectron2 INFO: Environment info:
---------------  -----------------------------------
sys.platform     linux
PyTorch          2.11.0 @/home/someone/torch
GPU available    No: torch.cuda.is_available() == False
---------------  -----------------------------------
[11/24 20:54:33] inspire_d2.engine.trainer INFO: GeneralizedRCNN with InspireFPN: 7.7 M \
parameters, 7.5 M of them trained
[11/24 21:10:00] d2.evaluation.evaluator INFO: Total inference pure compute time: 0:01:00 \
(0.25 s / iter per device, on 1 devices)
"""


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def write_set(folder: Path, count: int, seed: int = 0) -> Path:
    """Draw images of three centres, the first two with hostile names; return their COCO json."""
    (folder / "images").mkdir(parents=True)
    names = [*HOSTILE, *(f"polyp_{k:02d}.jpg" for k in range(count))]
    centres = ["C1", "C2", HOSTILE_CENTRE]
    images, annotations = [], []
    for k in range(count):
        pixels, mask = make_image(seed, k, 96)
        encoded = cv2.imencode(".jpg", pixels)[1]
        (folder / "images" / names[k]).write_bytes(encoded.tobytes())
        height, width = mask.shape
        size = {"height": height, "width": width, "centre": centres[k % 3]}
        images.append({"id": k + 1, "file_name": f"images/{names[k]}", **size})
        number, labels = cv2.connectedComponents(mask)
        for label in range(1, number):
            encoded = rle(labels == label)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": k + 1,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": int(mask_util.area(encoded)),
                    "bbox": [float(v) for v in mask_util.toBbox(encoded)],
                    "segmentation": encoded,
                }
            )
    content = {
        "info": {"image_root": "."},
        "categories": [{"id": 1, "name": "polyp"}],
        "images": images,
        "annotations": annotations,
    }
    path = folder / "val.json"
    path.write_text(json.dumps(content))
    return path


def invent(record: dict[str, Any], seed: int) -> Instances:
    """Make up predictions of an image: some of its polyps, shifted, and some that are not there."""
    generator = np.random.default_rng([seed, record["image_id"]])
    height, width = record["height"], record["width"]
    masks = []
    for annotation in record["annotations"]:
        shift = generator.integers(0, 9, size=2)
        mask = np.roll(mask_util.decode(annotation["segmentation"]).astype(bool), shift, (0, 1))
        masks += [mask] * int(generator.integers(0, 3))  # missed, found, or found twice
    for _ in range(int(generator.integers(0, 3))):
        mask = np.zeros((height, width), bool)
        top, left = generator.integers(0, 40, size=2)
        mask[top : top + 12, left : left + 20] = True
        masks.append(mask)
    instances = Instances((height, width))
    stacked = np.array(masks, bool).reshape(-1, height, width)
    instances.pred_masks = torch.from_numpy(stacked)
    instances.pred_boxes = BitMasks(instances.pred_masks).get_bounding_boxes()
    instances.scores = torch.from_numpy(generator.uniform(0.05, 1, len(masks)))
    classes = [annotation["category_id"] for annotation in record["annotations"]] or [0]
    instances.pred_classes = torch.from_numpy(generator.choice(classes, len(masks)))
    return instances


def write_run(
    folder: Path, json_file: Path, name: str, seed: int = 0, *, polyps: bool = True
) -> Path:
    """Leave in ``folder`` what train_net.py would of a Mask R-CNN, but for a checkpoint.

    Without ``polyps`` COCO's evaluator alone scores it.
    """
    cfg = load_config(str(CONFIGS / "polyp" / "demo_mask_rcnn_inspire.py"))
    cfg.train.output_dir = str(folder)
    for split in ("train", "test"):
        cfg.dataloader[split].dataset = {
            "_target_": "inspire_d2.data.polyp_dataset",
            "name": name,
            "json_file": str(json_file),
        }
    if not polyps:
        del cfg.dataloader.evaluator.evaluators[1]
    folder.mkdir(parents=True)
    save_config(cfg, str(folder / "config.yaml"))
    dicts = polyp_dataset(name, str(json_file))
    options = {"output_dir": str(folder), "distributed": False}
    classes = [InspireCOCOEvaluator, PolypEvaluator][: 1 + polyps]
    evaluator = DatasetEvaluators([one(name, **options) for one in classes])
    evaluator.reset()
    for record in dicts:
        evaluator.process([record], [{"instances": invent(record, seed)}])
    scores = {  # as train_net.py, without NaN
        task: {key: None if math.isnan(value) else value for key, value in metrics.items()}
        for task, metrics in evaluator.evaluate().items()
    }
    (folder / "evaluation.json").write_text(json.dumps(scores))
    lines = [
        {"iteration": k, "total_loss": 2 / (k + 1), "loss_cls": 1 / (k + 1), "lr": 0.01}
        | {"time": 0.5, "memory_gb": 1.25}
        for k in (19, 39, 59)
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "log.txt").write_text(LOG)
    return folder
