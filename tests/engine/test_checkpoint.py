"""What a checkpoint gives a model is told, and what it lacks stops the run."""

import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import nn

from inspire_d2.engine.checkpoint import ReportingCheckpointer
from inspire_d2.errors import InputError
from inspire_d2.modeling import InspireFPN


class Detector(nn.Module):
    """A backbone and a head, with the names that Detectron2's detectors have."""

    def __init__(self, classes: int = 2, **options: object) -> None:
        super().__init__()
        stages = ResNet.make_default_stages(18, norm="FrozenBN")[:2]
        bottom_up = ResNet(BasicStem(norm="FrozenBN"), stages, out_features=["res2", "res3"])
        self.backbone = InspireFPN(bottom_up, ["res2", "res3"], 16, **options)
        self.roi_heads = nn.Linear(16, classes)


Save = Callable[[dict[str, torch.Tensor]], str]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(tensors: dict[str, torch.Tensor]) -> str:
        path = tmp_path / "weights.pth"
        torch.save({"model": tensors}, path)
        return str(path)

    return write


@pytest.fixture
def imagenet(tmp_path: Path) -> str:
    """Write a bottom-up's weights as ImageNet checkpoints have them: bare names, a classifier."""
    state = Detector().backbone.bottom_up.state_dict()
    tensors = {key: value.numpy() + 0.25 for key, value in state.items()}
    tensors["fc1000.weight"] = tensors["stem.conv1.weight"][:1]
    tensors["res5.0.conv1.weight"] = tensors["stem.conv1.weight"][:1]
    path = tmp_path / "imagenet.pkl"
    content = {"model": tensors, "__author__": "test", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))
    return str(path)


@pytest.mark.parametrize("feedback", ["shared", "separate"])
def test_imagenet_weights_load_and_are_told(
    imagenet: str, feedback: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Detector(feedback=feedback)
    with caplog.at_level(logging.INFO, logger="inspire_d2"):
        ReportingCheckpointer(model).load(imagenet)
    with open(imagenet, "rb") as file:
        tensors = pickle.load(file)["model"]
    bottom_up = model.backbone.bottom_up.state_dict()
    for key, value in bottom_up.items():
        torch.testing.assert_close(value, torch.as_tensor(tensors[key]))
    table = " ".join(caplog.text.split())
    assert f"bottom-up {len(bottom_up)} of {len(bottom_up)}" in table
    assert "RoI heads 0 of 2" in table
    # Per level two convolutions with weight and bias.
    assert "lateral and output convolutions 0 of 8" in table
    assert "2 classifier or later-stage tensors, 0 that fit nowhere" in table
    if feedback == "separate":
        copied = model.backbone.feedback_res3.state_dict()
        assert f"separate feedback {len(copied)} of {len(copied)}" in table
        torch.testing.assert_close(copied, model.backbone.bottom_up.res3.state_dict())


def test_incomplete_bottom_up_stops_unless_allowed(save: Save) -> None:
    tensors = Detector().state_dict()
    del tensors["backbone.bottom_up.res3.1.conv2.weight"]
    path = save(tensors)
    with pytest.raises(InputError, match=r"1 tensors of the bottom-up unset .*conv2.weight"):
        ReportingCheckpointer(Detector()).load(path)
    ReportingCheckpointer(Detector(), allow_partial=True).load(path)


def test_tensor_of_another_shape_in_the_bottom_up_stops(save: Save) -> None:
    tensors = Detector().state_dict()
    tensors["backbone.bottom_up.res2.0.conv1.weight"] = torch.zeros(64, 1, 7, 7)
    with pytest.raises(InputError, match="res2.0.conv1.weight"):
        ReportingCheckpointer(Detector()).load(save(tensors))


def test_keys_that_fit_nowhere_stop_unless_allowed(save: Save) -> None:
    tensors = Detector().state_dict() | {
        "backbone.bottom_up.res3.7.conv1.weight": torch.zeros(1),
        "neck.weight": torch.zeros(1),
    }
    path = save(tensors)
    with pytest.raises(InputError, match="2 of its tensors fit nowhere"):
        ReportingCheckpointer(Detector()).load(path)
    ReportingCheckpointer(Detector(), allow_partial=True).load(path)


def test_heads_of_another_size_are_told_and_left(
    save: Save, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="inspire_d2"):
        ReportingCheckpointer(Detector(classes=5)).load(save(Detector().state_dict()))
    assert "RoI heads 0 of 2 2" in " ".join(caplog.text.split())


def test_scoring_needs_every_tensor(save: Save, imagenet: str) -> None:
    with pytest.raises(InputError, match="tensors of the model unset"):
        ReportingCheckpointer(Detector(), complete=True).load(imagenet)
    state = Detector().state_dict()
    model = Detector()
    ReportingCheckpointer(model, complete=True).load(save(state))
    torch.testing.assert_close(model.state_dict(), state)


def test_what_cannot_be_allowed_is_not_advised(save: Save, tmp_path: Path) -> None:
    path = save({"neck.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="config.yaml of the run that it is of") as error:
        ReportingCheckpointer(Detector(), allow_partial=None).load(path)
    assert "allow_partial" not in str(error.value)
    run = ReportingCheckpointer(Detector(classes=5), str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    run.save("model_0000001")
    resumed = ReportingCheckpointer(Detector(), str(tmp_path / "run"), allow_partial=True)
    with pytest.raises(InputError, match="config.yaml of the run that it is of"):
        resumed.resume_or_load("", resume=True)


def test_checkpoint_of_the_fpn_can_be_scored(save: Save) -> None:
    state = Detector().state_dict()
    fpn = {k: v for k, v in state.items() if not re.search(r"(ise|align|fusion|ssba)\d", k)}
    assert len(fpn) < len(state)
    ReportingCheckpointer(Detector(), complete=True).load(save(fpn))
    # A part of the new tensors is neither an FPN's checkpoint nor one of ours.
    partial = {k: v for k, v in state.items() if "ssba" not in k}
    with pytest.raises(InputError, match="tensors of the model unset"):
        ReportingCheckpointer(Detector(), complete=True).load(save(partial))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not a checkpoint"])
def test_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    for suffix in (".pth", ".pkl"):
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"damaged{suffix} cannot be read"):
            ReportingCheckpointer(Detector()).load(str(path))


def test_saved_checkpoint_resumes(tmp_path: Path) -> None:
    first, second = Detector(), Detector()
    ReportingCheckpointer(first, str(tmp_path)).save("model_0000001")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    ReportingCheckpointer(second, str(tmp_path)).resume_or_load("", resume=True)
    torch.testing.assert_close(second.state_dict(), first.state_dict())


def test_a_resume_of_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpointer = ReportingCheckpointer(nn.Linear(2, 2), str(tmp_path))
    with caplog.at_level(logging.WARNING):
        checkpointer.resume_or_load("", resume=False)
        assert not caplog.messages
        checkpointer.resume_or_load("", resume=True)
    assert caplog.messages == [f"--resume: {tmp_path} holds no checkpoint: the run begins anew."]


def test_machines_that_share_no_folder_do_not_resume_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = ReportingCheckpointer(nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("model_0000001")
    monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda own: [own, ""])
    with pytest.raises(InputError, match=r"model_0000001.pth, none\): train.output_dir must be"):
        checkpointer.resume_or_load("", resume=True)


def test_another_optimizers_groups_are_told(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    groups = [[model.weight, model.bias], [{"params": [p]} for p in model.parameters()]]
    first, second = (torch.optim.SGD(group, lr=0.1) for group in groups)
    ReportingCheckpointer(model, str(tmp_path), optimizer=first).save("model_0000001")
    resumed = ReportingCheckpointer(model, str(tmp_path), optimizer=second)
    with pytest.raises(InputError, match="does not go on with this config's optimizer .*groups"):
        resumed.resume_or_load("", resume=True)


def test_address_that_cannot_be_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    path = "http://localhost:9/model.pkl"  # the port that discards; nothing listens there
    with pytest.raises(InputError, match=f"checkpoint {path} cannot be fetched .*refused.*FILE"):
        ReportingCheckpointer(Detector()).load(path)
