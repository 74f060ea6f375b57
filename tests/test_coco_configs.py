"""Every model family of configs/coco trains a step on real COCO and is scored, at a small size."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig, ListConfig

from inspire_d2.engine.config import load_config
from inspire_d2.engine.norms import fit_sync_batch_norm
from inspire_d2.engine.trainer import run_training
from inspire_d2.modeling import InspireFPN

CONFIGS = Path(__file__).resolve().parents[1] / "configs/coco"
BOXES, MASKS = {"bbox"}, {"bbox", "segm"}
DETECTORS = {
    "faster_rcnn_r50_inspire_1x": BOXES,
    "mask_rcnn_r50_inspire_1x": MASKS,
    "mask_rcnn_r50_inspire_100ep_lsj": MASKS,
    "mask_rcnn_r50_inspire_3x_gn": MASKS,
    "mask_rcnn_r50_inspire_3x_syncbn": MASKS,
    "cascade_mask_rcnn_r50_inspire_1x": MASKS,
    "htc_without_semantic_r50_inspire_1x": MASKS,
    "retinanet_r50_inspire_1x": BOXES,
}
WITH_STUFF = ("semantic_r50_inspire_1x", "panoptic_r50_inspire_1x", "htc_r50_inspire_1x")
# Channels at full size -> here; ResNet-18 has 64 to 512.
WIDTHS = {2048: 512, 1024: 48, 256: 32, 128: 32}


def load_small(name: str) -> DictConfig:
    """Load a config with ResNet-18, an eighth of the channels, small images, few proposals."""
    cfg = load_config(str(CONFIGS / f"{name}.py"))
    stages = cfg.model.backbone.bottom_up.stages
    stages.depth = 18
    del stages.stride_in_1x1
    _narrow(cfg.model)
    if "roi_heads" in cfg.model:
        cfg.model.proposal_generator.update(pre_nms_topk=[200, 200], post_nms_topk=[100, 10])
        heads = cfg.model.roi_heads
        heads.batch_size_per_image = 64
        for predictor in heads.get("box_predictors") or [heads.box_predictor]:
            predictor.test_topk_per_image = 10
    for part in ("train", "test"):
        augmentations = cfg.dataloader[part].mapper.augmentations
        for augmentation in augmentations:
            if augmentation._target_ is T.ResizeShortestEdge:
                augmentation.update(short_edge_length=64, max_size=96, sample_style="choice")
            elif augmentation._target_ is T.ResizeScale:
                augmentation.update(target_height=96, target_width=96)
            elif augmentation._target_ is T.FixedSizeCrop:
                augmentation.crop_size = (96, 96)
        cfg.dataloader[part].num_workers = 0
    cfg.dataloader.train.total_batch_size = 2
    cfg.train.init_checkpoint = ""
    cfg.train.amp.enabled = False
    cfg.train.device = "cpu"
    cfg.train.max_iter = 1
    return cfg


def _narrow(node: Any, key: str = "") -> None:
    """Replace channel counts, which stand under keys such as out_channels and conv_dims."""
    if isinstance(node, (DictConfig, ListConfig)):
        keys = list(node) if isinstance(node, DictConfig) else range(len(node))
        for child in keys:
            name = str(child) if isinstance(node, DictConfig) else key
            value = node._get_node(child)
            if isinstance(value, (DictConfig, ListConfig)):
                _narrow(value, name)
            elif isinstance(node[child], int) and ("channels" in name or name.endswith("dims")):
                node[child] = WIDTHS.get(node[child], node[child])


@pytest.fixture(autouse=True)
def _needs_coco(shared_datasets: Path) -> None:
    if not (shared_datasets / "coco/annotations/instances_val2017.json").exists():
        pytest.skip("DETECTRON2_DATASETS holds no coco/ to train on")


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_trains_a_step_and_is_scored(name: str, tmp_path: Path) -> None:
    cfg = load_small(name)
    cfg.train.output_dir = str(tmp_path)
    results = run_training(cfg)
    assert results.keys() == DETECTORS[name]
    (line,) = [json.loads(x) for x in (tmp_path / "metrics.json").read_text().splitlines()][:1]
    losses = {key: value for key, value in line.items() if key.startswith("loss")}
    assert len(losses) >= 2 and all(torch.isfinite(torch.tensor(list(losses.values()))))
    assert any("mask" in key for key in losses) == (DETECTORS[name] == MASKS)
    assert json.loads((tmp_path / "evaluation.json").read_text()).keys() == DETECTORS[name]


@pytest.mark.parametrize("name", WITH_STUFF)
def test_learns_from_stuff(name: str) -> None:
    """Stuff maps are made from the real objects: 0 on things, another class in each quarter."""
    cfg = load_small(name)
    for part in ("train", "test"):
        cfg.dataloader[part].dataset.names = f"coco_2017_{part.replace('test', 'val')}"
    cfg.dataloader.train.mapper.use_instance_mask = True
    model = fit_sync_batch_norm(instantiate(cfg.model), on_gpu=False)
    assert isinstance(model.backbone, InspireFPN)
    mapper = instantiate(cfg.dataloader.train.mapper)
    batch = [mapper(one) for one in instantiate(cfg.dataloader.train.dataset)[:2]]
    for one in batch:
        one["sem_seg"] = _make_stuff(one)
    with EventStorage():
        losses = model.train()(batch)
    sum(losses.values()).backward()
    assert any("sem" in key for key in losses)
    assert all(torch.isfinite(value) for value in losses.values())
    for key, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, f"{key} learns nothing"
    with torch.no_grad():
        (output,) = model.eval()(batch[:1])
    height, width = batch[0]["height"], batch[0]["width"]
    if "htc" not in name:
        assert output["sem_seg"].shape[1:] == (height, width)
    if "panoptic" in name:
        assert output["panoptic_seg"][0].shape == (height, width)
    if "semantic" not in name:
        assert output["instances"].image_size == (height, width)


def _make_stuff(one: dict[str, Any]) -> torch.Tensor:
    height, width = one["image"].shape[1:]
    stuff = torch.full((height, width), 1)
    stuff[height // 2 :] += 1
    stuff[:, width // 2 :] += 2
    stuff[0] = 255
    for box in one["instances"].gt_boxes:
        x0, y0, x1, y1 = box.int().tolist()
        stuff[y0:y1, x0:x1] = 0
    return stuff


def test_real_mapper_runs(shared_datasets: Path) -> None:
    """Augmentations at full size, on an image with a crowd region, which is not trained on."""
    for name in ("mask_rcnn_r50_inspire_1x", "mask_rcnn_r50_inspire_100ep_lsj"):
        cfg = load_config(str(CONFIGS / f"{name}.py"))
        mapper = instantiate(cfg.dataloader.train.mapper)
        dataset = instantiate(cfg.dataloader.train.dataset)
        crowded = [d for d in dataset if any(a["iscrowd"] for a in d["annotations"])]
        assert crowded
        objects = [a for a in crowded[0]["annotations"] if not a["iscrowd"]]
        mapped = mapper(crowded[0])
        assert 0 < len(mapped["instances"]) <= len(objects)
        assert min(mapped["image"].shape[1:]) >= (1024 if "lsj" in name else 400)
