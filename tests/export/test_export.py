"""Exported models predict what the models that they come from predict, at any size."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling import PanopticFPN
from detectron2.structures import Boxes, Instances

import inspire_d2
from inspire_d2.data.synthetic import make_image
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError
from inspire_d2.export.check import compare, variants
from inspire_d2.export.graph import describe, trace, write_onnx, write_torchscript
from inspire_d2.export.run_onnx import Model
from inspire_d2.export.torchscript import Session
from inspire_d2.predictor import Predictor
from tools.export import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = [
    "dataloader.test.mapper.augmentations.0.short_edge_length=96",
    "dataloader.test.mapper.augmentations.0.max_size=160",
]
MASK_RCNN = "polyp/demo_mask_rcnn_inspire"
DETECTIONS = ["model.roi_heads.box_predictor.test_score_thresh=0.3"]


def predictor_of(name: str, *overrides: str) -> Predictor:
    """A model with random weights in all parts, also those that begin at zero."""
    cfg = load_config(str(CONFIGS / f"{name}.py"), [*SMALL, *overrides])
    torch.manual_seed(0)
    model = instantiate(cfg.model).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            spread = 0.1 if parameter.dim() < 2 else 0.3 * parameter[0].numel() ** -0.5
            if "bottom_up" in key:  # is random from the start
                spread *= 0.05
            if "bbox_pred" in key:  # boxes stay near to their anchors
                spread *= 0.1
            parameter.add_(torch.randn_like(parameter) * spread)
    return Predictor(cfg, model)


def images() -> list[np.ndarray]:
    image, _ = make_image(1, 0, 96)
    return list(variants(np.ascontiguousarray(image[:, :, ::-1])))


def exported(predictor: Predictor, folder: Path, *kinds: str) -> list[Model]:
    """The model in each of the formats, from one trace of it."""
    about = describe(predictor)
    (folder / "model.json").write_text(json.dumps(about))
    adapter = trace(predictor, predictor.prepare(images()[0])["image"].float())
    models = []
    if "onnx" in kinds:
        write_onnx(adapter, folder / "model.onnx", about["outputs"])
        models.append(Model(folder))
    if "torchscript" in kinds:
        write_torchscript(adapter, folder / "model.ts")
        models.append(Model(folder, Session(folder / "model.ts")))
    return models


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (MASK_RCNN, DETECTIONS),
        (MASK_RCNN, [*DETECTIONS, "model.backbone.align=none"]),
        ("polyp/mask_rcnn_r18_fpn", DETECTIONS),
        ("polyp/unet_r18_inspire", []),
        ("polyp/semantic_fpn_r18_inspire", []),
    ],
)
def test_exported_models_predict_the_same(name: str, overrides: list[str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    predictor = predictor_of(name, *overrides)
    for model in exported(predictor, tmp_path, "onnx", "torchscript"):
        found = compare(predictor, model, images())
        assert found.problems == []
        assert len(set(found.sizes)) == 3
        assert found.detections > 5 or model.about["kind"] == "segmenter"
    # the models tell one image from another, so that being equal says something
    first, second = (predictor(image) for image in images()[:2])
    assert str(first) != str(second)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (
            "htc_without_semantic_r50",
            # a ResNet-50's random weights make large values of what comes in: less does
            ["model.roi_heads.num_classes=3", "model.pixel_std=[100.0,100.0,100.0]"]
            + [
                f"model.roi_heads.box_predictors.{k}.{override}"
                for k in range(3)
                for override in ("test_score_thresh=0.02", "test_topk_per_image=12")
            ],
        ),
        (
            "retinanet_r50",
            ["model.num_classes=2", "model.head.num_classes=2", "model.test_score_thresh=0.05"],
        ),
    ],
)
def test_other_detectors_are_exported_to_torchscript(
    name: str, overrides: list[str], tmp_path: Path
) -> None:
    """To the same bits; to ONNX they go, too, but random weights make too much of rounding."""
    predictor = predictor_of(f"coco/{name}_inspire_1x", "train.init_checkpoint=''", *overrides)
    assert [one["id"] for one in predictor.categories] == list(
        range(1, len(predictor.categories) + 1)
    )
    (model,) = exported(predictor, tmp_path, "torchscript")
    found = compare(predictor, model, images())
    assert found.problems == [] and found.detections > 5


def test_deformable_alignment_goes_to_torchscript_alone(tmp_path: Path) -> None:
    predictor = predictor_of(MASK_RCNN, *DETECTIONS, "model.backbone.align=deform")
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="deformable convolution.*export it as torchscript"):
        exported(predictor, tmp_path, "onnx")
    (model,) = exported(predictor, tmp_path, "torchscript")
    found = compare(predictor, model, images()[:2])
    assert found.problems == [] and found.detections > 5


def test_volumes_and_what_cannot_be_resized_so_are_refused() -> None:
    flip = (
        "dataloader.test.mapper.augmentations=[{_target_: detectron2.data.transforms.RandomFlip}]"
    )
    cfg = load_config(str(CONFIGS / f"{MASK_RCNN}.py"), [flip])
    with pytest.raises(InputError, match="must be one ResizeShortestEdge.*not RandomFlip"):
        describe(Predictor(cfg, torch.nn.Identity()))
    cfg = load_config(str(CONFIGS / f"{MASK_RCNN}.py"))
    panoptic = PanopticFPN.__new__(PanopticFPN)
    torch.nn.Module.__init__(panoptic)
    for model, name in ((torch.nn.Identity(), "Identity"), (panoptic, "PanopticFPN")):
        with pytest.raises(InputError, match=f"{name} cannot be exported"):
            describe(Predictor(cfg, model))


def instances(boxes: list[list[float]], score: float, mask: slice) -> Instances:
    masks = torch.zeros(len(boxes), 40, 40, dtype=torch.bool)
    masks[:, mask, :20] = True
    return Instances(
        (40, 40),
        pred_boxes=Boxes(torch.tensor(boxes)),
        scores=torch.full((len(boxes),), score),
        pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
        pred_masks=masks,
    )


@pytest.mark.parametrize(
    ("shift", "score", "rows", "problem"),
    [
        (0.05, 0.8, slice(0, 20), None),
        (0.2, 0.8, slice(0, 20), "boxes differ by 0.2 pixels"),
        (0.0, 0.81, slice(0, 20), "scores differ by 0.01"),
        (0.0, 0.8, slice(0, 19), "masks have an IoU of 0.9500"),
        (None, 0.8, slice(0, 20), "1 detections, not 2"),
    ],
)
def test_differences_are_found(
    shift: float | None, score: float, rows: slice, problem: str | None
) -> None:
    boxes = [[2.0, 2, 20, 20], [5, 5, 30, 30]]
    other = [[side + (shift or 0) for side in box] for box in boxes[::-1]]  # in another order
    other = instances(other[: 1 if shift is None else 2], score, rows)
    found = {"boxes": other.pred_boxes.tensor.numpy(), "scores": other.scores.numpy(),
             "classes": other.pred_classes.numpy(), "masks": other.pred_masks.numpy()}  # fmt: skip
    result = compare(
        lambda _: instances(boxes, 0.8, slice(0, 20)), lambda _: found, [np.zeros((40, 40, 3))]
    )
    assert result.problems == ([] if problem is None else [f"40x40: {problem}"])


def test_nan_is_a_difference() -> None:
    images = [np.zeros((40, 40, 3))]
    whole, nan = np.full((40, 40), 0.5, np.float32), np.full((40, 40), np.nan, np.float32)
    for pair in ((whole, nan), (nan, whole), (nan, nan)):
        result = compare(lambda _, one=pair[0]: one, lambda _, one=pair[1]: one, images)
        assert result.problems == ["40x40: scores differ by nan"]
    expected = instances([[2.0, 2, 20, 20]], 0.8, slice(0, 20))
    found = {"boxes": np.full((1, 4), np.nan), "scores": np.array([0.8]), "classes": np.array([0]),
             "masks": expected.pred_masks.numpy()}  # fmt: skip
    result = compare(lambda _: expected, lambda _: found, images)
    assert result.problems == ["40x40: boxes that are not finite"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, and an image to check on."""
    predictor = predictor_of("polyp/semantic_fpn_r18_inspire")
    folder = tmp_path / "run"
    folder.mkdir()
    save_config(predictor.cfg, str(folder / "config.yaml"))
    torch.save({"model": predictor.model.state_dict()}, folder / "model_final.pth")
    (folder / "last_checkpoint").write_text("model_final.pth")
    assert cv2.imwrite(str(tmp_path / "a.png"), make_image(1, 0, 96)[0])
    return folder


def test_command_writes_a_checked_model(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    output = tmp_path / "out"
    words = ["--run", str(run), "--output", str(output), "--images", str(tmp_path / "a.png")]
    main([*words, "--format", "onnx", "torchscript"])
    assert "onnx, 3 images of" in capsys.readouterr().out
    names = sorted(path.name for path in output.iterdir())
    assert names == ["model.json", "model.onnx", "model.ts", "run_onnx.py"]
    command = [sys.executable, output / "run_onnx.py", tmp_path / "a.png", "--mask", "mask.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("% of the image\n")
    mask = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_GRAYSCALE)
    expected = inspire_d2.load(run, device="cpu")(tmp_path / "a.png") >= 0.5
    assert ((mask == 255) == expected).mean() > 0.999

    with pytest.raises(SystemExit):
        main(words)
    told = capsys.readouterr().err
    assert "holds model.onnx, model.ts, model.json, run_onnx.py already: take --force" in told
    (output / "model.onnx").write_bytes(b"mine")
    monkeypatch.setattr("inspire_d2.export.check.SCORE", -1.0)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--force"])
    assert ended.value.code == 2
    assert "predicts otherwise, and was not kept" in capsys.readouterr().err
    assert (output / "model.onnx").read_bytes() == b"mine"
    assert sorted(path.name for path in output.iterdir()) == names


def test_an_earlier_export_is_replaced_as_a_whole(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    words = ["--run", str(run), "--output", str(output), "--images", str(tmp_path / "a.png")]
    words += ["--format", "torchscript"]
    (output / "run_onnx.py").write_text("mine")
    with pytest.raises(SystemExit):
        main(words)
    assert "holds run_onnx.py already" in capsys.readouterr().err
    (output / "model.onnx").write_text("of another model")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("inspire_d2.export.graph.write_torchscript", interrupt)
        main([*words, "--force"])
    assert ended.value.code == 130
    assert "interrupted; no model was kept" in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == ["model.onnx", "run_onnx.py"]
    main([*words, "--force"])
    assert sorted(path.name for path in output.iterdir()) == ["model.json", "model.ts"]


def test_without_a_test_set_images_are_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["--run", str(run), "--output", "out", "--format", "torchscript"])
    assert "name --images to check" in capsys.readouterr().err
