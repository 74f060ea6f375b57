"""A trained model as a function: what it returns, of which inputs, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from PIL import Image
from torch import nn

import inspire_d2
from inspire_d2.data.synthetic import make_image
from inspire_d2.data.video import read_video
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError
from inspire_d2.findings import as_instances
from inspire_d2.modeling import HybridTaskCascade
from inspire_d2.predictor import Predictor, read_image

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DEMO = CONFIGS / "polyp" / "demo_mask_rcnn_inspire.py"
UNET = CONFIGS / "polyp" / "unet_r18_inspire.py"


def run_of(config: Path, folder: Path) -> Path:
    """A run's folder with a config and a checkpoint of random weights."""
    folder.mkdir()
    cfg = load_config(str(config), ["dataloader.test.num_workers=0"])
    save_config(cfg, str(folder / "config.yaml"))
    torch.manual_seed(0)
    torch.save({"model": instantiate(cfg.model).state_dict()}, folder / "model_final.pth")
    (folder / "last_checkpoint").write_text("model_final.pth")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a detector and of a segmenter, and images of several sizes, as a data set."""
    folder = tmp_path_factory.mktemp("predictor")
    run_of(DEMO, folder / "detector")
    run_of(UNET, folder / "segmenter")
    images = []
    for index in range(4):
        pixels, _ = make_image(1, index, 96)
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
        size = {"height": pixels.shape[0], "width": pixels.shape[1]}
        images.append({"id": index, "file_name": f"{index}.png"} | size)
    box = {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "area": 64, "bbox": [8, 8, 8, 8]}
    box["segmentation"] = [[8, 8, 16, 8, 16, 16, 8, 16]]
    truth = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "polyp"}]}
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def same(result: object, expected: object) -> bool:
    """Whether two predictions of one image are one, but for rounding."""
    if isinstance(expected, np.ndarray):
        return result.shape == expected.shape and np.allclose(result, expected, atol=1e-5)
    return (
        result.image_size == expected.image_size
        and torch.allclose(result.scores, expected.scores, atol=1e-5)
        and torch.allclose(result.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-3)
        and bool((result.pred_masks == expected.pred_masks).float().mean() > 0.9999)
    )


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_predictions_are_those_that_train_net_scores(folder: Path, kind: str) -> None:
    model = inspire_d2.load(folder / kind, device="cpu")
    cfg = model.cfg
    cfg.dataloader.test.dataset = {
        "_target_": "inspire_d2.data.polyp_dataset",
        "name": f"predictor_{kind}",
        "json_file": str(folder / "truth.json"),
        "image_root": str(folder),
    }
    results = model([folder / f"{index}.png" for index in range(4)])  # in batches, in any order
    assert len({str(result) for result in results}) == 4  # none is another image's
    for batch in instantiate(cfg.dataloader.test):
        with torch.no_grad():
            output = model.model(batch)[0]
        if kind == "segmenter":
            expected = (1 - output["sem_seg"].softmax(dim=0)[0]).numpy()
            assert results[batch[0]["image_id"]].dtype == np.float32
        else:
            expected = output["instances"]
            assert len(expected) > 0
        assert same(results[batch[0]["image_id"]], expected)


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_paths_and_arrays_of_either_order_are_one(folder: Path, kind: str) -> None:
    path = folder / "0.png"
    bgr = cv2.imread(str(path))
    rgb_model = inspire_d2.load(folder / kind, device="cpu")
    bgr_model = inspire_d2.load(folder / kind, device="cpu", channel_order="BGR")
    expected = rgb_model(str(path))
    assert same(rgb_model(bgr[:, :, ::-1]), expected)
    assert same(bgr_model(bgr), expected)
    assert same(bgr_model(path), expected)
    assert not same(rgb_model(bgr), expected)


def test_a_config_file_goes_with_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    run, image = folder / "segmenter", folder / "1.png"
    expected = inspire_d2.load(run)(image)
    for config in (UNET, run / "config.yaml"):
        assert same(inspire_d2.load(config, run / "model_final.pth", "cpu")(image), expected)
    assert same(inspire_d2.load(run / "config.yaml")(image), expected)
    # a run that was moved: its newest checkpoint is the one beside its config
    moved = tmp_path / "mov=ed [1]"
    moved.mkdir()
    for name in ("config.yaml", "model_final.pth", "last_checkpoint"):
        (moved / name).symlink_to(run / name)
    assert same(inspire_d2.load(moved)(image), expected)


def test_wrong_runs_are_told(folder: Path, tmp_path: Path) -> None:
    run = folder / "segmenter"
    (tmp_path / "empty").mkdir()
    weights = torch.load(run / "model_final.pth")
    weights["model"]["sem_seg_head.predictor_p1.bias"][0] = float("nan")
    torch.save(weights, tmp_path / "nan.pth")
    for arguments, message in (
        (["nothing"], "nothing does not exist"),
        ([tmp_path / "empty"], "holds no config.yaml"),
        ([UNET], "no checkpoint of its own"),
        ([run, tmp_path / "no.pth"], "no.pth does not exist"),
        ([run, folder / "detector" / "model_final.pth"], "does not fit this config"),
        ([run, tmp_path / "nan.pth"], "1 tensors that are not finite .*predictor_p1.bias"),
        ([run, None, "tpu9"], "not a device"),
    ):
        with pytest.raises(InputError, match=message):
            inspire_d2.load(*arguments)
    with pytest.raises(InputError, match="must be RGB or BGR"):
        inspire_d2.load(run, channel_order="GBR")
    for batch_size in (0, 2.5, "2"):
        with pytest.raises(InputError, match="must be a whole number from 1 up"):
            Predictor(load_config(str(UNET)), nn.Identity(), batch_size=batch_size)
    volumes = load_config(str(CONFIGS / "mri" / "atlas_unet_inspire.py"))
    with pytest.raises(InputError, match="predict_mri.py takes volumes"):
        Predictor(volumes, nn.Identity())


class Echo(nn.Module):
    """A segmenter whose logits are those given, at each image's size; it notes its batches."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits, self.batches = torch.tensor(logits), []

    def forward(self, items: list[dict]) -> list[dict]:
        self.batches.append(len(items))
        sizes = [(item["height"], item["width"]) for item in items]
        return [{"sem_seg": self.logits[:, None, None].expand(-1, *size)} for size in sizes]


def test_a_list_goes_through_in_batches_of_one_size() -> None:
    echo = Echo([0.0, 0.0])
    model = Predictor(load_config(str(UNET)), echo, batch_size=3)
    wide, tall = np.zeros((20, 40, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)
    results = model([wide, wide, tall, wide, tall])
    shapes = [(20, 40), (20, 40), (40, 20), (20, 40), (40, 20)]
    assert [result.shape for result in results] == shapes
    assert echo.batches == [2, 1, 1, 1]
    assert model([]) == []


@pytest.mark.parametrize("kind", [GeneralizedRCNN, HybridTaskCascade])
def test_of_a_large_image_few_masks_are_kept(
    kind: type[GeneralizedRCNN], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by HTC, whose forward is its own."""
    every = ["model.roi_heads.box_predictor.test_score_thresh=0.0"]
    cfg = load_config(str(CONFIGS / "polyp" / "demo_mask_rcnn_inspire.py"), every)
    model = instantiate(cfg.model).eval()
    model.__class__ = kind  # in training alone does HTC want heads of its own
    predictor = Predictor(cfg, model)
    items = [predictor.prepare(np.zeros((64, 96, 3), np.uint8))]
    (small,) = predictor.predict(items)
    monkeypatch.setattr("inspire_d2.predictor.MASK_BYTES", 64 * 96)
    (large,) = predictor.predict(items)
    assert len(small) > 5 == len(large)
    assert torch.equal(large.scores, small.scores[:5])


def test_classes_keep_their_maps() -> None:
    image = np.zeros((8, 9, 3), np.uint8)
    result = Predictor(load_config(str(UNET)), Echo([0.0, 1.0, 2.0]))(image)
    assert result.shape == (3, 8, 9)
    np.testing.assert_allclose(result[:, 0, 0], torch.tensor([0.0, 1, 2]).softmax(0), rtol=1e-6)
    with pytest.raises(InputError, match="segments 3 classes"):
        as_instances(result, 0.5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"\(8, 8\): repeat a grey channel"),
        (np.zeros((8, 8, 1), np.uint8), "repeat a grey channel"),
        (np.zeros((8, 8, 4), np.uint8), "no transparency"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.float32), "float32: scale it"),
        (np.zeros((1, 20000, 3), np.uint8), "20000x1 cannot be brought to the size"),
        (torch.zeros(3, 8, 8), "got Tensor"),
        ("none.png", "none.png cannot be read"),
    ],
)
def test_wrong_images_are_told(image: object, message: str) -> None:
    model = Predictor(load_config(str(UNET)), Echo([0.0, 0.0]))
    with pytest.raises(InputError, match=message):
        model(image)


def test_image_files_of_every_kind(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    Image.fromarray(pixels).save(tmp_path / "exif.png", exif=turned)
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "exif.png"), np.rot90(pixels, -1))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[:, :, 2], pixels[:, :, 0])
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", "BGR"), pixels[:, :, ::-1])
    Image.fromarray(np.zeros((6, 9), np.uint16)).save(tmp_path / "deep.png")
    whole = (tmp_path / "rgba.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name, reason in (("deep", "more than 8 bits"), ("half", "cannot be read"), ("", "cannot")):
        with pytest.raises(InputError, match=reason) as told:
            read_image(tmp_path / (f"{name}.png" if name else "empty.jpg"))
        assert "out of the json" not in str(told.value)


def test_categories_are_the_data_sets() -> None:
    coco = load_config(str(CONFIGS / "coco" / "mask_rcnn_r50_inspire_1x.py"))
    categories = Predictor(coco, nn.Identity()).categories
    assert len(categories) == 80
    assert categories[0] == {"id": 1, "name": "person"}
    assert categories[79] == {"id": 90, "name": "toothbrush"}
    polyps = Predictor(load_config(str(DEMO)), nn.Identity()).categories
    assert polyps == [{"id": 1, "name": "polyp"}]


def test_categories_are_those_of_a_json_of_ones_own(tmp_path: Path) -> None:
    rows = [{"id": 7, "name": "serrated"}, {"id": 3, "name": "adenoma"}]
    image = {"id": 1, "file_name": "a.png", "height": 9, "width": 9}
    truth = {"images": [image], "annotations": [], "categories": rows}
    (tmp_path / "val.json").write_text(json.dumps(truth))
    mine = f"dataloader.test.dataset={{name: mine, json_file: '{tmp_path}/val.json'}}"
    cfg = load_config(str(DEMO), [mine, "model.roi_heads.num_classes=2"])
    assert Predictor(cfg, nn.Identity()).categories == rows[::-1]
    (tmp_path / "val.json").unlink()
    names = [one["name"] for one in Predictor(cfg, nn.Identity()).categories]
    assert names == ["class 1", "class 2"]


def test_a_video_that_breaks_off_is_told_after_its_frames(tmp_path: Path) -> None:
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    noise = np.random.default_rng(0)
    for _ in range(20):
        writer.write(noise.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    frames = list(read_video(whole))
    assert [fps for _, fps in frames] == [5.0] * 20
    assert frames[0][0].shape == (48, 64, 3)
    content = whole.read_bytes()
    (tmp_path / "half.avi").write_bytes(content[: len(content) // 2])
    read = []
    with pytest.raises(InputError, match=r"half.avi breaks off after \d+ of 20 frames"):
        read.extend(read_video(tmp_path / "half.avi"))
    (tmp_path / "none.avi").write_bytes(b"none")
    with pytest.raises(InputError, match="none.avi cannot be read"):
        list(read_video(tmp_path / "none.avi"))
    with pytest.raises(InputError, match="there is no webcam 99999999999"):
        list(read_video("99999999999"))


def test_the_package_itself_stays_light() -> None:
    code = "import sys, inspire_d2; assert not {'torch', 'cv2', 'detectron2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONFIGS.parent)
    assert inspire_d2.Predictor is Predictor
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = inspire_d2.laod
