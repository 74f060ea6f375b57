"""Patches and volumes of prepared MRI: where they are drawn, and that they are what is stored."""

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from inspire_d2.data import build_train_loader
from inspire_d2.data.mri import mri_dataset
from inspire_d2.data.mri_mapper import MriMapper
from inspire_d2.data.mri_transforms import RandomGamma, RandomIntensity, RandomNoise
from inspire_d2.errors import InputError

from .mri_helpers import prepare, save_brats

S, C, H, W = 6, 2, 9, 7


@pytest.fixture
def item() -> dict[str, Any]:
    """A volume in memory whose voxels say where they are; the label's values lie in few slices."""
    where = np.arange(1, S * H * W + 1, dtype=np.float16).reshape(S, 1, H, W)
    label = np.zeros((S, H, W), np.uint8)
    label[1, 2, 3] = label[4, 8, 6] = label[4, 0, 0] = 1  # one voxel in slice 1, two in 4
    label[2, 3:6, 1:4] = 4
    counts = {str(v): [int((part == v).sum()) for part in label] for v in (1, 4)}
    return {"case": "x", "image": np.concatenate([where, -where], 1), "label": label,
            "voxels": counts}  # fmt: skip


def place(mapped: dict[str, Any]) -> tuple[int, int, int]:
    """Return slice, row and column of a patch's first voxel that is in the volume."""
    patch = mapped["image"][0]
    first = int(patch[patch > 0].min()) - 1
    return first // (H * W), first // W % H, first % W


def test_a_patch_is_what_is_stored(item: dict[str, Any]) -> None:
    mapper = MriMapper(is_train=True, patch_size=(4, 3))
    corners = set()
    for _ in range(600):
        mapped = mapper(item)
        number, y, x = place(mapped)
        window = (slice(y, y + 4), slice(x, x + 3))
        np.testing.assert_array_equal(
            mapped["image"], item["image"][(number, slice(None), *window)]
        )
        np.testing.assert_array_equal(mapped["sem_seg"], item["label"][(number, *window)])
        corners.add((y, x))
    assert mapped["image"].dtype == torch.float32
    assert mapped["sem_seg"].dtype == torch.int64
    assert mapped["case"] == "x"
    assert corners == {(y, x) for y in range(H - 3) for x in range(W - 2)}


def test_sampling_proportions(item: dict[str, Any]) -> None:
    draws = 3000
    mapper = MriMapper(is_train=True, patch_size=(3, 3), foreground_share=1.0)
    slices: Counter = Counter()
    for _ in range(draws):
        mapped = mapper(item)
        number = place(mapped)[0]
        value = 4 if number == 2 else 1
        assert (mapped["sem_seg"] == value).any()
        slices[number] += 1
    for number, share in {1: 1 / 6, 4: 2 / 6, 2: 1 / 2}.items():  # values alike, slices by voxels
        deviation = np.sqrt(draws * share * (1 - share))
        assert abs(slices.pop(number) - draws * share) < 4 * deviation
    assert not slices


def test_share_of_the_foreground(item: dict[str, Any]) -> None:
    draws = 3000
    mapper = MriMapper(is_train=True, foreground_share=0.25)
    slices = Counter(place(mapper(item))[0] for _ in range(draws))
    shares = {0: 0, 1: 1 / 6, 2: 1 / 2, 3: 0, 4: 1 / 3, 5: 0}
    for number, of_foreground in shares.items():
        share = 0.75 / S + 0.25 * of_foreground
        deviation = np.sqrt(draws * share * (1 - share))
        assert abs(slices[number] - draws * share) < 4 * deviation


def test_voxels_that_do_not_count_are_not_looked_for(item: dict[str, Any]) -> None:
    item["label"][item["label"] == 4] = 255
    item["voxels"]["255"] = item["voxels"].pop("4")
    mapper = MriMapper(is_train=True, patch_size=(1, 1), foreground_share=1)
    assert {int(mapper(item)["sem_seg"]) for _ in range(50)} == {1}


def test_every_voxel_of_a_label_is_as_likely(item: dict[str, Any]) -> None:
    draws = 4500
    mapper = MriMapper(is_train=True, patch_size=(1, 1), foreground_share=1.0)
    found = Counter(place(mapper(item)) for _ in range(draws))
    of_four = {where: count for where, count in found.items() if where[0] == 2}
    assert set(of_four) == {(2, y, x) for y in range(3, 6) for x in range(1, 4)}
    expected = draws / 2 / 9
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in of_four.values())


def test_a_slice_smaller_than_the_patch(item: dict[str, Any]) -> None:
    mapper = MriMapper(is_train=True, patch_size=(12, 5), foreground_share=0.5)
    tops = set()
    for _ in range(300):
        mapped = mapper(item)
        number, _, x = place(mapped)
        rows = torch.nonzero(mapped["image"][0].sum(dim=1)).flatten()
        assert len(rows) == H  # all of the slice
        top = int(rows[0])
        tops.add(top)
        wanted = np.zeros((C, 12, 5), np.float32)
        wanted[:, top : top + H] = item["image"][number, :, :, x : x + 5]
        np.testing.assert_array_equal(mapped["image"], wanted)
        assert not mapped["sem_seg"][:top].any()
        assert not mapped["sem_seg"][top + H :].any()
    assert tops == {0, 1, 2, 3}


def test_whole_slices_and_neighbours(item: dict[str, Any]) -> None:
    whole = MriMapper(is_train=False, neighbours=2)(item)
    assert whole["image"].shape == (S, 5 * C, H, W)
    assert whole["image"].dtype == torch.float16
    assert whole["label"].dtype == torch.uint8
    for number in range(S):
        for place_, offset in enumerate(range(-2, 3)):
            source = min(max(number + offset, 0), S - 1)
            np.testing.assert_array_equal(
                whole["image"][number, place_ * C : (place_ + 1) * C], item["image"][source]
            )
    mapper = MriMapper(is_train=True, neighbours=2)
    seen = set()
    for _ in range(60):
        mapped = mapper(item)
        number = int(mapped["image"][2 * C, 0, 0] - 1) // (H * W)
        seen.add(number)
        np.testing.assert_array_equal(mapped["image"], whole["image"][number])
        np.testing.assert_array_equal(mapped["sem_seg"], item["label"][number])
    assert seen == set(range(S))


def test_a_volume_without_labelled_voxels(item: dict[str, Any]) -> None:
    item.update(label=np.zeros((S, H, W), np.uint8), voxels={})
    mapper = MriMapper(is_train=True, patch_size=(4, 4), foreground_share=1.0)
    assert {place(mapper(item))[0] for _ in range(100)} == set(range(S))
    item["voxels"] = {"1": [0] * S}
    assert not mapper(item)["sem_seg"].any()


def test_an_index_that_does_not_fit_its_labels(item: dict[str, Any]) -> None:
    item["voxels"] = {"2": [1] * S}
    with pytest.raises(InputError, match="has no voxel of 2.*prepare_mri.py again"):
        MriMapper(is_train=True, foreground_share=1.0)(item)


def test_detectron2_mirrors_both(item: dict[str, Any]) -> None:
    flip = T.RandomFlip(prob=1.0, horizontal=True, vertical=False)
    plain, mirrored = (
        MriMapper(is_train=True, foreground_share=1.0, augmentations=augmentations)
        for augmentations in ([], [flip])
    )
    np.random.seed(3)
    wanted = plain(item)
    np.random.seed(3)
    mapped = mirrored(item)
    assert mapped["image"].equal(wanted["image"].flip(2))
    assert mapped["sem_seg"].equal(wanted["sem_seg"].flip(1))
    assert mapped["image"].dtype == torch.float32
    tested = MriMapper(is_train=False, augmentations=[flip])(item)
    np.testing.assert_array_equal(tested["image"], item["image"])


AUGMENTATIONS = [
    T.RandomFlip(horizontal=True, vertical=False),
    T.RandomFlip(horizontal=False, vertical=True),
    RandomIntensity(0.2, 0.3),
    RandomGamma(probability=0.5),
    RandomNoise(probability=0.5),
]


def test_changes_of_intensity_keep_the_background(item: dict[str, Any]) -> None:
    image = np.random.default_rng(0).normal(size=(C, 20, 30)).astype(np.float32)
    image[:, :7] = 0
    label = np.ones((20, 30), np.uint8)
    for change in (RandomIntensity(), RandomGamma(probability=1), RandomNoise(probability=1)):
        before = image.copy()
        changed, same = change(image, label)
        assert same is label
        np.testing.assert_array_equal(image, before)
        assert changed.dtype == np.float32
        assert not changed[:, :7].any()
        assert (changed[:, 7:] != image[:, 7:]).mean() > 0.9
    scale, shift = RandomIntensity(0.2, 0.0), RandomIntensity(0.0, 0.3)
    ratio = scale(image, label)[0][:, 7:] / image[:, 7:]
    assert np.ptp(ratio, axis=(1, 2)).max() < 1e-4
    assert 0.8 <= ratio.min() <= ratio.max() <= 1.2
    moved = (shift(image, label)[0] - image)[:, 7:]
    assert np.ptp(moved, axis=(1, 2)).max() < 1e-5
    assert np.abs(moved).max() <= 0.3
    bent = RandomGamma(probability=1)(image, label)[0]
    for before, after in zip(image[:, 7:], bent[:, 7:], strict=True):
        np.testing.assert_allclose([after.min(), after.max()], [before.min(), before.max()], 1e-5)
        order = before.ravel().argsort()
        assert (np.diff(after.ravel()[order]) >= 0).all()
    assert np.isfinite(RandomGamma(probability=1)(np.zeros_like(image), label)[0]).all()
    unchanged = RandomNoise(probability=0)(image, label)[0]
    assert unchanged is image


def test_wrong_arguments() -> None:
    for wrong in ({"foreground_share": 1.5}, {"neighbours": -1}, {"patch_size": (4,)},
                  {"patch_size": (0, 4)}):  # fmt: skip
        with pytest.raises(InputError, match=next(iter(wrong))):
            MriMapper(is_train=True, **wrong)
    for make in (
        lambda: RandomIntensity(scale=1),
        lambda: RandomGamma(low=0),
        lambda: RandomNoise(deviation=-1),
        lambda: RandomNoise(probability=2),
    ):
        with pytest.raises(InputError, match="Random"):
            make()


def test_the_stream_is_the_same_with_workers(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save_brats(tmp_path, name)
    items = mri_dataset("mine", str(prepare(tmp_path)))
    mapper = MriMapper(is_train=True, patch_size=(8, 8), neighbours=1, augmentations=AUGMENTATIONS)
    assert pickle.loads(pickle.dumps(mapper)).patch_size == (8, 8)
    streams = []
    for workers in (0, 2):
        loader = build_train_loader(items, mapper=mapper, total_batch_size=2, num_workers=workers)
        loader.start(5, 1)
        batches = iter(loader)
        streams.append([sample for _ in range(4) for sample in next(batches)])
    for ours, theirs in zip(*streams, strict=True):
        assert ours["case"] == theirs["case"]
        assert ours["image"].shape == (12, 8, 8)
        assert ours["image"].equal(theirs["image"])
        assert ours["sem_seg"].equal(theirs["sem_seg"])
    assert len({sample["image"].sum().item() for sample in streams[0]}) == len(streams[0])
