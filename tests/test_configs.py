"""Every config of the repository: it loads, resolves, survives being saved, and builds."""

import copy
import functools
import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling.backbone.fpn import FPN
from omegaconf import DictConfig, OmegaConf

from inspire_d2.data import build_train_loader
from inspire_d2.engine.config import SECTIONS, load_config, save_config
from inspire_d2.modeling import InspireFPN
from inspire_d2.modeling.unet import UNet

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(p for p in CONFIGS.rglob("*.py") if "common" not in p.relative_to(CONFIGS).parts)
NAMES = [str(path.relative_to(CONFIGS)) for path in FILES]


@functools.cache
def _load(name: str) -> DictConfig:
    return load_config(str(CONFIGS / name))


def load(name: str) -> DictConfig:
    """Load a config once for all tests; give each a copy to change."""
    return copy.deepcopy(_load(name))


def test_there_are_configs() -> None:
    assert "polyp/mask_rcnn_r18_inspire.py" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_config_survives_being_saved(name: str, tmp_path: Path) -> None:
    cfg = load(name)
    assert set(cfg) == set(SECTIONS)  # what a config leaves over would be saved, too
    save_config(cfg, str(tmp_path / "config.yaml"))
    again = load_config(str(tmp_path / "config.yaml"))
    # Detectron2's own form of both, in which keys are sorted, tells whether anything was lost.
    LazyConfig.save(cfg, str(tmp_path / "before.yaml"))
    LazyConfig.save(again, str(tmp_path / "after.yaml"))
    assert (tmp_path / "after.yaml").read_text() == (tmp_path / "before.yaml").read_text()
    # A pickle beside it is what Detectron2 makes of a config with a lambda.
    assert not list(tmp_path.glob("*.pkl"))
    assert _keys(again) == _keys(cfg)


def _keys(node: object) -> object:
    """Give a config's keys alone, in their order."""
    if isinstance(node, DictConfig):
        return [(key, _keys(node._get_node(key))) for key in node]
    return None


@pytest.mark.parametrize("name", NAMES)
def test_config_builds(name: str) -> None:
    cfg = load(name)
    # Without memory for the weights: the largest model has some 130 M of them.
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert isinstance(model.backbone, InspireFPN) == ("inspire" in name)
    assert isinstance(model.backbone, UNet if "unet" in name and "plain" in name else FPN)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in model.parameters() if p.requires_grad}
    assert instantiate(cfg.lr_multiplier)(0.5) > 0
    for split in ("train", "test"):
        instantiate(cfg.dataloader[split].mapper)
    # the one that --resume goes on with
    assert cfg.dataloader.train._target_ is build_train_loader


# Detectron2's own models have the pyramid's 256 channels in several places.
WITH_OWN_HEADS = [name for name in NAMES if re.search("semantic_fpn|rcnn_r18|demo", name)]


@pytest.mark.parametrize("name", WITH_OWN_HEADS)
def test_heads_have_as_many_channels_as_the_pyramid(name: str) -> None:
    cfg = load(name)
    cfg.model.backbone.out_channels = 32
    with torch.device("meta"):
        model = instantiate(cfg.model)
        features = {
            name: torch.empty(1, shape.channels, 256 // shape.stride, 256 // shape.stride)
            for name, shape in model.backbone.output_shape().items()
        }
        assert {feature.shape[1] for feature in features.values()} == {32}
        if hasattr(model, "sem_seg_head"):
            model.sem_seg_head.layers(features)
        else:
            model.proposal_generator.rpn_head(list(features.values()))
            model.roi_heads.box_head(torch.empty(1, 32, 7, 7))
            model.roi_heads.mask_head.layers(torch.empty(1, 32, 14, 14))


@pytest.mark.parametrize("name", [name for name in NAMES if "rcnn" in name or "htc" in name])
def test_augmented_sizes_surround_the_tested_one(name: str) -> None:
    """COCO's would enlarge small polyps' images tenfold, at a hundred times the time."""
    cfg = load(name)
    tested = cfg.dataloader.test.mapper.augmentations[0]
    tta = cfg.train.tta.wrapper
    smallest, largest = min(tta.short_edge_lengths), max(tta.short_edge_lengths)
    assert smallest < tested.short_edge_length < largest <= 2 * tested.short_edge_length
    assert tta.max_size >= tested.max_size


def twin_of(name: str) -> str:
    """Name the config without INSPIRE that one with it is to be compared with."""
    twins = [name.replace("inspire", other) for other in ("fpn", "plain")]
    return next(twin for twin in twins if twin in NAMES)


WITH_TWIN = [name for name in NAMES if "inspire" in name and "demo" not in name]


@pytest.mark.parametrize("name", WITH_TWIN)
def test_twin_differs_in_the_pyramid_alone(name: str) -> None:
    ours = OmegaConf.to_container(load(name), resolve=True)
    theirs = OmegaConf.to_container(load(twin_of(name)), resolve=True)
    for cfg in (ours, theirs):
        for key in (
            "_target_",
            "steps",
            "feedback",
            "norm",
            "out_channels",
            "out_features",
            "widths",
        ):
            cfg["model"]["backbone"].pop(key, None)
        if "unet" in name:  # where INSPIRE has one number of channels
            cfg["model"]["sem_seg_head"].pop("channels")
            # UNet has its last convolutions itself.
            convs = cfg["model"]["sem_seg_head"].pop("num_convs", None)
            assert convs == (2 if cfg is ours else None)
        if name == "polyp/mask_rcnn_r18_inspire.py":  # FPN has no parts to have this rate
            cfg["optimizer"]["params"]["lr_factor_func"].pop("inspire")
    assert _without_output(ours) == _without_output(theirs)


def _without_output(value: object) -> object:
    """Leave out every output_dir of a nested container."""
    if isinstance(value, dict):
        return {k: _without_output(v) for k, v in value.items() if k != "output_dir"}
    return [_without_output(v) for v in value] if isinstance(value, list) else value


def test_coco_configs_come_in_pairs() -> None:
    fpn = {name.replace("_fpn_", "_inspire_") for name in NAMES if name.startswith("coco/")}
    assert fpn == {name for name in NAMES if name.startswith("coco/") and "_inspire_" in name}
    assert "coco/htc_r50_inspire_1x.py" in fpn


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("coco/")])
def test_coco_schedule(name: str) -> None:
    """The rate falls where the published recipe lets it fall, in images seen."""
    cfg = load(name)
    images = cfg.train.max_iter * cfg.dataloader.train.total_batch_size
    expected = {
        "1x": (1_440_000, (6 / 9, 8 / 9)),
        "3x": (4_320_000, (21 / 27, 25 / 27)),
        "20e": (20 * 117_266, (16 / 20, 19 / 20)),
        "100ep": (100 * 118_000, (163_889 / 184_375, 177_546 / 184_375)),
    }
    total, falls = next(v for k, v in expected.items() if f"_{k}" in name)
    assert abs(images / total - 1) < 1e-3
    rate = instantiate(cfg.lr_multiplier)
    for factor, share in zip((1, 0.1), falls, strict=True):
        assert rate(share - 1e-3) == pytest.approx(factor)
        assert rate(share + 1e-3) == pytest.approx(factor / 10)
    assert rate(0.0) < 0.1
    assert cfg.optimizer.lr == (0.1 if "lsj" in name else 0.01 if "retinanet" in name else 0.02)
    assert cfg.train.lr_scaling.batch_size == cfg.dataloader.train.total_batch_size


@pytest.mark.parametrize("pyramid", ["fpn", "inspire"])
def test_polyps_on_eight_gpus_train_as_coco_does(pyramid: str) -> None:
    """From the same weights at the same rate: what is frozen, and for how many images."""
    polyp = load(f"polyp/mask_rcnn_r50_{pyramid}.py")
    coco = load(f"coco/mask_rcnn_r50_{pyramid}_1x.py")
    for cfg in (polyp, coco):
        assert cfg.model.backbone.bottom_up.freeze_at == 2
        assert cfg.optimizer.lr == 0.02 and cfg.train.lr_scaling.batch_size == 16
        assert cfg.train.init_checkpoint == polyp.train.init_checkpoint


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "inspire" in n and "demo" not in n and "100ep" not in n]
)
def test_weights_of_the_twin_fit(name: str) -> None:
    """Each tensor of the FPN model has a place of its name and shape (but for a changed norm).

    Of a plain U-Net, each of the encoder's.
    """
    shapes = []
    for one in (name, twin_of(name)):
        cfg = load(one)
        with torch.device("meta"):
            model = instantiate(cfg.model)
        state = model.state_dict()
        # GroupNorm, in place of a batch norm in the pyramid, has no statistics.
        kept = [k for k in state if not ("fpn_" in k and "running_" in k or "num_batches" in k)]
        if "unet" in one and "plain" in one:
            kept = [key for key in kept if key.startswith("backbone.bottom_up.")]
        shapes.append({key: state[key].shape for key in kept})
    ours, theirs = shapes
    assert theirs and theirs == {key: ours.get(key) for key in theirs}


def test_parts_learn_at_their_own_rates() -> None:
    cfg = load_config(str(CONFIGS / "polyp/mask_rcnn_r18_inspire.py"))
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    rates = {
        id(p): group["lr"]
        for group in instantiate(cfg.optimizer).param_groups
        for p in group["params"]
    }
    parts = (model.backbone.bottom_up, model.backbone.fpn_output2, model.backbone.ssba2)
    found = [{rates[id(p)] for p in part.parameters() if p.requires_grad} for part in parts]
    expected = torch.tensor([1e-4, 8e-4, 1.6e-3])
    torch.testing.assert_close(torch.tensor([rate for one in found for rate in one]), expected)
