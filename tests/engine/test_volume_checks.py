"""A prepared MRI set that does not fit the model is refused before a run begins."""

from typing import Any

import pytest

from inspire_d2.engine.config import load_config
from inspire_d2.engine.volume_checks import check_volumes
from inspire_d2.errors import InputError


def content(**changes: Any) -> dict[str, Any]:
    return {
        "channels": ["t1", "t1ce", "t2", "flair"],
        "labels": [1, 2, 4],
        "cases": [{"label": None}, {"label": "cases/a.label.npy"}],
    } | changes


def check(index: dict[str, Any], *overrides: str, split: str = "train", **options: Any) -> None:
    cfg = load_config("configs/mri/brats_unet_inspire.py", list(overrides))
    check_volumes(cfg, split, "mine", index, **{"training": True} | options)


def test_a_set_that_fits() -> None:
    check(content())
    check(content(labels=[1, 2, 3]), split="test")
    wide = "model.backbone.bottom_up.in_channels=12"
    for split in ("train", "test"):  # the second's mapper takes the first's
        check(content(), "dataloader.train.mapper.neighbours=1", wide, split=split)
    check(content(cases=[{"label": None}]), split="test", training=False)


@pytest.mark.parametrize(
    ("index", "overrides", "sentence"),
    [
        (content(labels=[1, 2]), (), r"no label of the region ET \(3, 4\) is among .* \(1, 2\)"),
        (content(labels=[]), (), r"\(it has none\): set model.sem_seg_head.loss.regions, or"),
        (content(channels=["image"]), (), "has the channels image, but .*in_channels is 4: set it"),
        (
            content(),
            ("dataloader.train.mapper.neighbours=1",),
            "flair in each of 3 slices, but .*in_channels is 4: set it to 12",
        ),
        (
            content(),
            ("model.sem_seg_head.loss.regions.ET=null",),
            "ET is None, not a list of",
        ),
        (content(), ("model.sem_seg_head.loss.regions={a: 1}",), "a is 1, not a list of label"),
        (content(cases=[{"label": None}]), (), "cannot be scored, no case of it has a label"),
    ],
)
def test_what_does_not_fit(
    index: dict[str, Any], overrides: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check(index, *overrides)
