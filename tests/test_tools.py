"""The scripts in tools/."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import nn

TOOLS = Path(__file__).parents[1] / "tools"


def test_the_architecture_is_drawn(tmp_path, capsys):
    output = tmp_path / "docs" / "architecture.png"
    main = runpy.run_path(str(TOOLS / "draw_architecture.py"))["main"]
    main(["--output", str(output)])
    assert str(output) in capsys.readouterr().out
    image = cv2.imread(str(output))
    assert image.shape == (960, 1800, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50  # planes, chips and text
    assert output.stat().st_size < 250_000
    main(["--output", str(tmp_path / "architecture.svg")])
    assert "<svg" in (tmp_path / "architecture.svg").read_text()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.what", "x.what must end in one of "),
        ("none", "none must end in one of "),
        ("/proc/x.png", "/proc/x.png cannot be written: "),
        ("file/x.png", "file/x.png cannot be written: "),
    ],
)
def test_where_the_architecture_cannot_be_drawn(output, message, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(TOOLS / "draw_architecture.py"))["main"]
    with pytest.raises(SystemExit) as ended:
        main(["--output", output])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("arch", "depth"), [("resnet18", 18), ("resnet50", 50)])
def test_converted_weights_compute_torchvisions_features(tmp_path, arch, depth):
    theirs = torchvision.models.get_model(arch).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    output = tmp_path / "weights" / "ours.pkl"
    main = runpy.run_path(str(TOOLS / "convert_torchvision.py"))["main"]
    main([arch, str(output), "--weights", str(tmp_path / "theirs.pth")])

    options = {"stride_in_1x1": False} if depth == 50 else {}
    stages = ResNet.make_default_stages(depth, norm="FrozenBN", **options)
    ours = ResNet(BasicStem(norm="FrozenBN"), stages, out_features=["res2", "res5"]).eval()
    DetectionCheckpointer(ours).load(str(output))
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features = ours(images)
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = {"res2": theirs.layer1(expected)}
        expected["res5"] = theirs.layer4(theirs.layer3(theirs.layer2(expected["res2"])))
    for name, value in expected.items():
        torch.testing.assert_close(features[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output", ["/proc/x.pkl", "file/x.pkl"])
def test_weights_that_cannot_be_written_are_not_downloaded(output, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    loaded = []
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: loaded.append(1))
    main = runpy.run_path(str(TOOLS / "convert_torchvision.py"))["main"]
    with pytest.raises(SystemExit) as ended:
        main(["resnet18", output])
    assert ended.value.code == 2
    assert f"error: {output} cannot be written: " in capsys.readouterr().err
    assert not loaded


def test_weights_that_are_none_are_refused(tmp_path, capsys):
    main = runpy.run_path(str(TOOLS / "convert_torchvision.py"))["main"]
    (tmp_path / "none.pth").write_bytes(b"")
    for words in (["resnet17"], ["resnet18", "--weights", str(tmp_path / "none.pth")]):
        with pytest.raises(SystemExit) as error:
            main([words[0], str(tmp_path / "out.pkl"), *words[1:]])
        assert error.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out.pkl").exists()


def test_only_a_pkl_is_written(tmp_path, capsys):
    main = runpy.run_path(str(TOOLS / "convert_torchvision.py"))["main"]
    (tmp_path / "folder.pkl").mkdir()
    for name in ("weights.pth", "folder.pkl"):
        with pytest.raises(SystemExit) as error:
            main(["resnet18", str(tmp_path / name), "--weights", str(tmp_path / "theirs.pth")])
        assert error.value.code == 2
        assert "name a file that ends in .pkl" in capsys.readouterr().err
