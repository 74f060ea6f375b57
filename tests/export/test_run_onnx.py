"""What the runner does without PyTorch and Pillow, against what they and Detectron2 do."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import paste_masks_in_image
from PIL import Image

from inspire_d2.export import run_onnx


@pytest.mark.parametrize(
    ("before", "after"),
    [((97, 131), (40, 61)), ((40, 61), (97, 131)), ((64, 64), (64, 31)), ((5, 300), (9, 20)), ((1, 1), (3, 2))],  # noqa: E501
)  # fmt: skip
def test_images_are_resized_as_pillow_does(before: tuple[int, int], after: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*before, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize(after[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(run_onnx.resize_image(image, *after), expected)


def test_sizes_are_detectron2s() -> None:
    generator = np.random.default_rng(0)
    for height, width, short, longest in generator.integers(1, 2000, (300, 4)):
        expected = ResizeShortestEdge.get_output_shape(height, width, short, longest)
        rule = {"short_edge": int(short), "max_size": int(longest)}
        assert run_onnx.input_size(int(height), int(width), rule) == expected
    assert run_onnx.input_size(3, 4, {"height": 7, "width": 9}) == (7, 9)


@pytest.mark.parametrize("size", [(50, 70), (9, 11), (24, 32)])
def test_maps_are_resized_as_pytorch_does(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 24, 32)
    expected = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    found = run_onnx.resize_map(maps.numpy(), *size)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_masks_are_pasted_as_detectron2_does() -> None:
    masks, size = torch.rand(20, 28, 28), (80, 120)
    corner = torch.rand(20, 2) * torch.tensor([100.0, 60.0])
    # some narrower than a pixel, some beyond the border
    boxes = torch.cat([corner, corner + torch.rand(20, 2) * 40 + 0.2], dim=1)
    expected = paste_masks_in_image(masks, boxes, size, threshold=0.5).numpy()
    found = run_onnx.paste(masks.numpy(), boxes.numpy(), size)
    assert expected.any(axis=(1, 2)).sum() > 15
    assert (found == expected).mean() > 0.9999


@pytest.mark.parametrize(
    ("activation", "background"), [("softmax", True), ("softmax", False), ("sigmoid", False)]
)
def test_probabilities(activation: str, background: bool) -> None:
    logits = torch.randn(2, 5, 6) * 20
    expected = logits.softmax(dim=0)[1:] if background else getattr(logits, activation)(
        *([0] if activation == "softmax" else [])
    )  # fmt: skip
    about = {"activation": activation, "background": background}
    found = run_onnx.probabilities(logits.numpy(), about)
    np.testing.assert_allclose(found, expected.squeeze(0).numpy(), atol=1e-6)


def test_large_images_keep_the_best_masks_alone() -> None:
    found = {
        "boxes": np.tile(np.float32([10, 10, 60, 60]), (9, 1)),
        "scores": np.linspace(1, 0.2, 9),
        "masks": np.ones((9, 28, 28), np.float32),
    }
    few = run_onnx.detections(found, (100, 100), (6000, 6000))
    assert len(few["masks"]) == len(few["boxes"]) == 5
    np.testing.assert_array_equal(few["scores"], found["scores"][:5])
    del found["masks"]
    assert len(run_onnx.detections(found, (100, 100), (6000, 6000))["boxes"]) == 9


def command(monkeypatch: pytest.MonkeyPatch, found: object, *words: str) -> None:
    monkeypatch.setattr(run_onnx, "Model", lambda _: lambda image: found)
    monkeypatch.setattr(sys, "argv", ["run_onnx.py", *words])
    run_onnx.main()


def test_boxes_stand_in_for_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    boxes, scores = np.float32([[2, 3, 8, 9], [0, 0, 30, 20]]), np.array([0.9, 0.1])
    words = [str(tmp_path / "a.png"), "--mask", str(tmp_path / "mask.png")]
    command(monkeypatch, {"boxes": boxes, "scores": scores}, *words)
    expected = np.zeros((20, 30), np.uint8)
    expected[3:9, 2:8] = 255
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected)


def test_what_it_cannot_show_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    deep = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    deep.save(tmp_path / "deep.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    for name, sentence in (("deep", "more than 8 bits"), ("a", "segments 3 classes")):
        with pytest.raises(SystemExit) as ended:
            command(monkeypatch, np.zeros((3, 20, 30)), str(tmp_path / f"{name}.png"))
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err


def test_wrong_files_are_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    image, empty = tmp_path / "a.png", tmp_path / "empty.png"
    Image.new("RGB", (30, 20)).save(image)
    empty.touch()
    map_ = np.zeros((20, 30))
    for words, sentence in (
        ([tmp_path / "none.png"], "none.png cannot be read as an image: "),
        ([empty], "empty.png cannot be read as an image: "),
        ([image, "--mask", tmp_path / "none" / "mask.png"], "mask.png cannot be written: "),
        ([image, "--mask", tmp_path / "mask.what"], "mask.what cannot be written: "),
    ):
        with pytest.raises(SystemExit) as ended:
            command(monkeypatch, map_, *map(str, words))
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(run_onnx, "__file__", str(tmp_path / "run_onnx.py"))
    monkeypatch.setattr(sys, "argv", ["run_onnx.py", str(image)])
    for there, lacking in (
        ((), "holds no model.json and no model.onnx: export"),
        (["model.json"], "holds no model.onnx: export"),
        (["model.onnx"], "the model cannot be loaded: [ONNXRuntimeError]"),  # damaged
    ):
        for name in there:
            (tmp_path / name).write_text("{}")
        with pytest.raises(SystemExit) as ended:
            run_onnx.main()
        assert ended.value.code == 2
        assert lacking in capsys.readouterr().err


def test_an_image_too_narrow_for_the_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    about = {"channel_order": "RGB", "resize": {"short_edge": 64, "max_size": 96}}
    (tmp_path / "model.json").write_text(json.dumps(about))
    model = run_onnx.Model(tmp_path, session="never called")
    Image.new("RGB", (1, 5000)).save(tmp_path / "a.png")
    monkeypatch.setattr(run_onnx, "Model", lambda _: model)
    monkeypatch.setattr(sys, "argv", ["run_onnx.py", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit) as ended:
        run_onnx.main()
    assert ended.value.code == 2
    assert "an image of 1x5000 cannot be brought to the size" in capsys.readouterr().err


def test_runner_needs_numpy_and_onnxruntime_alone() -> None:
    tree = ast.parse(Path(run_onnx.__file__).read_text())
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import)
               for name in node.names}  # fmt: skip
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL"}
