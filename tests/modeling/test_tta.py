"""Test-time augmentation: none of it changes nothing, a mirror mirrors, sizes are merged once."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.modeling import PanopticFPN
from detectron2.structures import Instances
from torch import nn
from torchvision.ops import batched_nms, box_iou

from inspire_d2.engine.config import load_config
from inspire_d2.errors import InputError
from inspire_d2.modeling import RCNNWithTTA

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HEIGHT, WIDTH = 72, 96


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / "polyp/mask_rcnn_r18_inspire.py"))
    model = instantiate(cfg.model).eval()
    for module in model.modules():  # frozen norms let random weights explode
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.weight.data *= 0.7
    nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.05)
    nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=0.01)
    nn.init.normal_(model.roi_heads.mask_head.predictor.weight, std=0.05)
    model.roi_heads.box_predictor.test_score_thresh = 0.2
    return model


def make_input(flip: bool = False) -> dict:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, HEIGHT // 8, WIDTH // 8, generator=generator) * 255
    image = nn.functional.interpolate(image[None], scale_factor=8, mode="bilinear")[0]
    image = image.flip(2) if flip else image
    return {"image": image.to(torch.uint8), "height": HEIGHT, "width": WIDTH}


def wrap(model: nn.Module, sizes: tuple[int, ...], flip: bool = False) -> RCNNWithTTA:
    # One image a batch: images padded to a common size would differ along their edges.
    return RCNNWithTTA(model, short_edge_lengths=sizes, max_size=400, flip=flip, batch_size=1)


def plainly(model: nn.Module, short_edge: int) -> Instances:
    """Predict as a test mapper and the model do without augmentation."""
    one = make_input()
    image = one["image"].permute(1, 2, 0).numpy()
    resized = T.ResizeShortestEdge(short_edge, 400).get_transform(image).apply_image(image)
    one["image"] = torch.as_tensor(resized.copy()).permute(2, 0, 1)
    with torch.no_grad():
        return model([one])[0]["instances"]


def augmented(wrapper: RCNNWithTTA, flip: bool = False) -> Instances:
    with torch.no_grad():
        return wrapper([make_input(flip)])[0]["instances"]


@pytest.mark.parametrize("size", [72, 96])
def test_one_size_is_no_augmentation(model: nn.Module, size: int) -> None:
    expected, found = plainly(model, size), augmented(wrap(model, (size,)))
    assert len(expected) > 5
    # Boxes go to the image's size and back, in single precision.
    torch.testing.assert_close(
        found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-2, rtol=0
    )
    torch.testing.assert_close(found.scores, expected.scores)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    differing = (found.pred_masks != expected.pred_masks).float().mean()
    assert differing < 1e-3 and expected.pred_masks.any()


def test_a_flipped_image_gives_flipped_results(model: nn.Module) -> None:
    wrapper = wrap(model, (96,), flip=True)
    plain, flipped = augmented(wrapper), augmented(wrapper, flip=True)
    assert len(plain) == len(flipped) > 5
    boxes = flipped.pred_boxes.tensor[:, [2, 1, 0, 3]]
    boxes[:, [0, 2]] = WIDTH - boxes[:, [0, 2]]
    # In pairs: which of two equal scores comes first is not fixed.
    iou = box_iou(plain.pred_boxes.tensor, boxes)
    best, index = iou.max(dim=1)
    assert best.min() > 0.999 and len(index.unique()) == len(index)
    torch.testing.assert_close(flipped.scores[index], plain.scores)
    mirrored = flipped.pred_masks[index].flip(2)
    assert (mirrored != plain.pred_masks).float().mean() < 1e-3


def test_sizes_are_merged_by_one_nms(model: nn.Module) -> None:
    sizes = (64, 96, 128)
    found = augmented(wrap(model, sizes))
    single = [augmented(wrap(model, (size,))) for size in sizes]
    boxes = torch.cat([one.pred_boxes.tensor for one in single])
    scores = torch.cat([one.scores for one in single])
    classes = torch.cat([one.pred_classes for one in single])
    predictor = model.roi_heads.box_predictor
    kept = batched_nms(boxes, scores, classes, predictor.test_nms_thresh)
    kept = kept[: predictor.test_topk_per_image]
    assert len(kept) < len(boxes)
    torch.testing.assert_close(found.pred_boxes.tensor, boxes[kept], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, scores[kept])


def test_nothing_found(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.roi_heads.box_predictor, "test_score_thresh", 1.1)
    found = augmented(wrap(model, (64, 96), flip=True))
    assert len(found) == 0 and found.pred_masks.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["cascade_mask_rcnn_r50", "htc_r50"])
def test_cascades(name: str) -> None:
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / f"coco/{name}_inspire_1x.py"))
    cfg.model.backbone.bottom_up.stages.depth = 18
    del cfg.model.backbone.bottom_up.stages.stride_in_1x1
    model = instantiate(cfg.model).eval()
    for predictor in model.roi_heads.box_predictor:
        predictor.test_score_thresh, predictor.test_topk_per_image = 0.0, 5
    wrapper = RCNNWithTTA(model, short_edge_lengths=(64, 96), max_size=400)
    found = augmented(wrapper)
    assert len(found) == 5 and found.pred_masks.shape == (5, HEIGHT, WIDTH)
    assert torch.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("name", "sizes", "max_size", "flip"),
    [
        ("htc_r50_inspire_1x", range(400, 1201, 100), 4000, True),
        ("htc_r50_inspire_20e", (600, 800, 800, 1000, 1200, 1400, 1600), 2400, False),
        ("htc_x101_fpn_20e", (600, 800, 800, 1000, 1200, 1400, 1600), 2400, False),
    ],
)
def test_presets_of_configs(
    model: nn.Module, name: str, sizes: Iterable[int], max_size: int, flip: bool
) -> None:
    tta = load_config(str(CONFIGS / f"coco/{name}.py")).train.tta
    assert not tta.enabled
    tta.wrapper.model = model
    mapper = instantiate(tta.wrapper).tta_mapper
    assert (mapper.min_sizes, mapper.max_size, mapper.flip) == (list(sizes), max_size, flip)
    short = [min(one["image"].shape[1:]) for one in mapper(make_input())]
    assert short == [size for size in sizes for _ in range(1 + flip)]


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="not for a Linear: set train.tta.enabled=False"):
        wrap(nn.Linear(1, 1), (64,))
    panoptic = PanopticFPN.__new__(PanopticFPN)
    with pytest.raises(InputError, match="not for a PanopticFPN: set train.tta.enabled=False"):
        wrap(panoptic, (64,))


@pytest.mark.parametrize(
    "changes",
    [
        *({"short_edge_lengths": bad} for bad in ([], [0], [64, -5], [64.5], ["a"], "64", [True])),
        *({"max_size": bad} for bad in (0, 400.0, None)),
        *({"batch_size": bad} for bad in (0, -1, 1.5)),
    ],
)
def test_sizes_must_be_whole_numbers(model: nn.Module, changes: dict) -> None:
    options = {"short_edge_lengths": [64], "max_size": 400, "batch_size": 1} | changes
    with pytest.raises(InputError, match=f"{next(iter(changes))}=.*whole numbers? from 1 up"):
        RCNNWithTTA(model, **options)
