"""A prepared MRI set that does not fit the model is refused before a run begins."""

import re
from typing import Any

import pytest

from inspire_d2.engine.config import load_config
from inspire_d2.engine.volume_checks import check_same_kind, check_volumes
from inspire_d2.errors import InputError

REGIONS = "model.sem_seg_head.loss.regions"


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
        (
            content(),
            (f"{REGIONS}={{WT: null, TC: null, ET: null, a: [1, 2], b: [2, 4]}}",),
            r"the region b \(\[2, 4\]\) overlaps a",
        ),
        (
            content(),
            (f"{REGIONS}={{WT: null, TC: null, ET: null, core: [1], all: [1, 2, 4]}}",),
            "all .*overlaps core|core .*has no label of its own",
        ),
        (content(), ("dataloader.train.mapper.neighbours=-1",), "neighbours=-1 must be a whole"),
        (content(cases=[{"label": None}]), (), "cannot be scored, no case of it has a label"),
    ],
)
def test_what_does_not_fit(
    index: dict[str, Any], overrides: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        check(index, *overrides)


def case(name: str, **changes: Any) -> dict[str, Any]:
    """An entry of an index of volumes from back to front, left to right, foot to head."""
    affine = [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    return {
        "case": name, "patient": name, "digest": f"sha256:{name}", "axis": 2, "affine": affine,
        "oriented": True, "skull_stripped": True, "spacing": [1, 1, 3], "reference": "a.nii.gz",
    } | changes  # fmt: skip


def kinds(trained: list[dict[str, Any]], scored: list[dict[str, Any]], **changes: Any) -> None:
    check_same_kind(content(cases=trained), "mine", content(cases=scored) | changes)


def test_a_set_of_the_kind_trained_on(capsys: pytest.CaptureFixture) -> None:
    kinds([case("a"), case("b")], [case("c", spacing=[1.05, 1, 9])])
    unknown = {"oriented": False, "reference": None, "spacing": [9, 9, 9]}
    kinds([case("a")], [case("c", **unknown)])
    kinds([case("a", **unknown)], [case("c", axis=0)])
    one = content(channels=["t1"], cases=[case("a")])
    check_same_kind(one, "mine", content(channels=["image"], cases=[case("b")]))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("scored", "changes", "sentence"),
    [
        (case("c", axis=0), {}, "go from left to right, those .* from foot to head"),
        (case("c"), {"channels": ["flair", "t1", "t2", "t1ce"]}, "is trained on t1, t1ce, t2"),
        (case("c"), {"channels": ["image"]}, "has the channels image, the model"),
        (case("c", skull_stripped=False), {}, "prepare it with --skull-stripped"),
    ],
)
def test_a_set_of_another_kind(
    scored: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        kinds([case("a")], [scored], **changes)


MIRRORED = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("scored", "sentence"),
    [
        (case("c", affine=MIRRORED), "lead to SRA, those that the model is trained on to SLP"),
        (case("c", spacing=[0.4, 0.4, 5]), "has pixels of 0.4 to 0.4 mm, .* on 1 to 1 mm"),
        (case("c", patient="a"), r"1 cases of the set mine are of patients trained on \(c\)"),
        (case("c", digest="sha256:a"), "are of patients trained on"),
    ],
)
def test_what_may_not_be_meant(
    scored: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    kinds([case("a")], [scored])
    assert re.search(f"^warning: .*{sentence}", capsys.readouterr().err)
