"""An ImageNet ResNet, or a whole FPN model of Detectron2's zoo, starts an INSPIRE model."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.engine.config import load_config
from inspire_d2.errors import InputError
from inspire_d2.modeling import InspireFPN

CONFIGS = Path(__file__).resolve().parents[2] / "configs/polyp"
PARTS = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}


class Detector(nn.Module):
    """A small ResNet of bottlenecks, a block a stage, under a pyramid."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        stages = [
            ResNet.make_stage(
                BottleneckBlock,
                1,
                stride_per_block=[1 if k == 0 else 2],
                in_channels=8 if k == 0 else 8 * 2**k,
                out_channels=16 * 2**k,
                bottleneck_channels=4 * 2**k,
                norm="FrozenBN",
            )
            for k in range(4)
        ]
        names = ["res2", "res3", "res4", "res5"]
        resnet = ResNet(BasicStem(out_channels=8, norm="FrozenBN"), stages, out_features=names)
        self.backbone = InspireFPN(resnet, names, 8, top_block=LastLevelMaxPool(), **options)


def caffe2_names(model: Detector) -> dict[str, str]:
    """Map the bottom-up's parameters to the names of Caffe2's ResNets, as MSRA's R-50.pkl has."""
    names = {}
    for key in model.backbone.bottom_up.state_dict():
        block, _, leaf = key.rpartition(".")
        if leaf not in ("weight", "bias"):
            continue
        is_norm = block.endswith(".norm")
        block = block.removesuffix(".norm")
        if block == "stem.conv1":
            stem = "res_conv1_bn" if is_norm else "conv1"
        else:
            stage, index, part = block.split(".")
            stem = f"{stage}_{index}_{PARTS[part]}" + ("_bn" if is_norm else "")
        suffix = "_b" if leaf == "bias" else "_s" if is_norm else "_w"
        names[f"backbone.bottom_up.{key}"] = stem + suffix
    return names


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "options", [{"steps": 1}, {"steps": 2}, {"steps": 2, "feedback": "separate"}]
)
def test_caffe2_resnet(options: dict, wrapped: bool, tmp_path: Path) -> None:
    model = Detector(**options)
    names = caffe2_names(model)
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch1_w", "res5_0_branch2c_bn_b"} <= set(
        names.values()
    )
    state = model.state_dict()
    rng = np.random.default_rng(0)
    weights = {c2: rng.random(tuple(state[d2].shape), np.float32) for d2, c2 in names.items()}
    blobs = weights | {"conv1_w_momentum": np.zeros(3), "fc1000_w": np.zeros((5, 128), np.float32)}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs} if wrapped else blobs, 2))
    ReportingCheckpointer(model).load(str(path))
    loaded = model.state_dict()
    for d2, c2 in names.items():
        np.testing.assert_array_equal(loaded[d2].numpy(), weights[c2], err_msg=d2)
    if options.get("feedback") == "separate":
        copies = [key for key in loaded if key.startswith("backbone.feedback_")]
        sources = {key: _source(key) for key in copies}
        assert copies and all(torch.equal(loaded[k], loaded[s]) for k, s in sources.items())


def _source(key: str) -> str:
    """Name the tensor of the bottom-up that a separate feedback's tensor begins as."""
    stage = key.index("res")
    return "backbone.bottom_up." + key[stage:]


@pytest.mark.parametrize("steps", [1, 2])
def test_whole_fpn_model_of_the_zoo(
    steps: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Boxes' and masks' heads, laterals and output convolutions: all of it, by value."""
    torch.manual_seed(1)
    fpn = instantiate(load_config(str(CONFIGS / "mask_rcnn_r18_fpn.py")).model)
    overrides = [f"model.backbone.steps={steps}"]
    model = instantiate(load_config(str(CONFIGS / "mask_rcnn_r18_inspire.py"), overrides).model)
    zoo = {key: value.numpy() for key, value in fpn.state_dict().items()}
    path = tmp_path / "model_final_a54504.pkl"
    path.write_bytes(pickle.dumps({"model": zoo, "__author__": "Detectron2 Model Zoo"}))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        ReportingCheckpointer(model).load(str(path))
    after = model.state_dict()
    for key, value in after.items():
        expected = torch.as_tensor(zoo[key]) if key in zoo else before[key]
        assert torch.equal(value, expected), key
    own = len(after) - len(zoo)
    assert own > 0
    assert f"0 of {own}" in caplog.text  # new in INSPIRE
    fpn_rows = [line for line in caplog.text.splitlines() if "of" in line and "INSPIRE" not in line]
    for part in ("bottom-up", "lateral and output", "proposal generator", "RoI heads"):
        row = next(line for line in fpn_rows if line.startswith(part))
        loaded, total = (int(word) for word in row.split() if word.isdigit())
        assert loaded == total > 0


def test_code_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "mark").encode())
    with pytest.raises(InputError, match=r"bad.pkl is refused: it names os.system"):
        ReportingCheckpointer(Detector()).load(str(path))
    torch.save({"model": {}, "code": Detector}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"bad.pth cannot be read .*names \S*Detector"):
        ReportingCheckpointer(Detector()).load(str(tmp_path / "bad.pth"))
    assert not (tmp_path / "mark").exists()
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="holds a list"):
        ReportingCheckpointer(Detector()).load(str(path))
