"""Volumes are predicted slice by slice, whole or in windows, whatever their size."""

import pytest
import torch
from detectron2.modeling.backbone.fpn import FPN

from inspire_d2.errors import InputError
from inspire_d2.modeling import InspireFPN
from inspire_d2.modeling.losses import RegionLoss
from inspire_d2.modeling.semantic_head import UNetHead
from inspire_d2.modeling.unet import UNet, UNetEncoder
from inspire_d2.modeling.volume import VolumeSegmentor

from .helpers import image, randomise

pytest.importorskip("monai")
LEVELS = ("enc0", "enc1", "enc2")
REGIONS = {"WT": [1, 2], "TC": [1]}


def model(channels: int = 2, decoder: str = "inspire", **options: object) -> VolumeSegmentor:
    torch.manual_seed(0)
    encoder = UNetEncoder(channels, (4, 6, 8))
    if decoder == "unet":
        backbone = UNet(encoder, LEVELS)
    else:
        cls = {"inspire": InspireFPN, "fpn": FPN}[decoder]
        backbone = cls(encoder, LEVELS, 4)
    head = UNetHead(("p0",), 4, loss=RegionLoss(REGIONS))
    whole = VolumeSegmentor(
        backbone=backbone, sem_seg_head=head, pixel_mean=[0.0], pixel_std=[1.0], **options
    )
    return randomise(whole).eval()


def volume(slices: int, channels: int, *size: int) -> dict[str, torch.Tensor]:
    return {"image": image(slices, channels, *size).half(), "file_name": "case.npy"}


@pytest.mark.parametrize("decoder", ["inspire", "unet", "fpn"])
@pytest.mark.parametrize("slices", [1, 8, 9])
def test_slices_are_predicted_one_by_one(decoder: str, slices: int) -> None:
    """The batch of slices changes nothing, nor does padding to the decoder's stride."""
    segmentor, item = model(decoder=decoder), volume(slices, 2, 21, 19)
    predicted = segmentor([item])[0]["sem_seg"]
    assert predicted.shape == (2, slices, 21, 19)
    padded = torch.nn.functional.pad(item["image"].float(), (0, 1, 0, 3))
    for number in range(slices):
        with torch.no_grad():
            logits, _ = segmentor.sem_seg_head(segmentor.backbone(padded[number : number + 1]))
        expected = logits[0, :, :21, :19].sigmoid()
        torch.testing.assert_close(predicted[:, number].float(), expected, rtol=0, atol=2e-3)


def test_windows_of_a_slices_size_are_the_slice() -> None:
    item = volume(3, 2, 24, 20)
    whole = model()([item])[0]["sem_seg"]
    windows = model(window=[24, 20])([item])[0]["sem_seg"]
    torch.testing.assert_close(windows, whole, rtol=0, atol=1e-3)


def test_windows_cover_a_larger_slice() -> None:
    segmentor = model(window=[16, 16], overlap=0.25)
    predicted = segmentor([volume(2, 2, 37, 41)])[0]["sem_seg"]
    assert predicted.shape == (2, 2, 37, 41)
    assert ((predicted >= 0) & (predicted <= 1)).all()
    assert predicted.std() > 0.01


def test_mirror_makes_a_prediction_that_mirrors() -> None:
    item = volume(2, 2, 24, 20)
    flipped = item | {"image": item["image"].flip(-1)}
    for mirror in (False, True):
        segmentor = model(mirror=mirror)
        ours, theirs = (segmentor([i])[0]["sem_seg"].float() for i in (item, flipped))
        same = torch.allclose(theirs.flip(-1), ours, atol=2e-3)
        assert same == mirror


def test_it_trains_on_patches_of_its_regions() -> None:
    segmentor = model().train()
    patches = [
        {"image": image(2, 24, 24, seed=i), "sem_seg": torch.full((24, 24), i)} for i in range(2)
    ]
    losses = segmentor(patches)
    assert set(losses) == {"loss_ce", "loss_dice"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in segmentor.sem_seg_head.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_channels_that_do_not_fit_are_told(training: bool) -> None:
    segmentor = model(channels=4).train(training)
    item = {"image": image(2, 24, 24), "sem_seg": torch.zeros(24, 24, dtype=torch.int64)}
    with pytest.raises(InputError, match="case.npy has 2 channels, .* takes 4"):
        segmentor([item | {"file_name": "case.npy"} if training else volume(1, 2, 24, 24)])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": [16]}, "height and a width"),
        ({"overlap": 1.0}, "less than 1"),
        ({"slices_per_batch": 0}, "1 or more"),
    ],
)
def test_wrong_numbers_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model(**options)
