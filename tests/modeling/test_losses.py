"""Losses: Dice against computations by hand, regions that overlap and classes that do not."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from inspire_d2.errors import InputError
from inspire_d2.modeling.losses import CrossEntropyDice, RegionLoss, soft_dice_loss

from .helpers import image

IGNORE = 255
BRATS = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}


def by_hand(logits: np.ndarray, target: np.ndarray) -> float:
    """1 - Dice of every image and class, pixel by pixel, in Python floats."""
    losses = []
    for k in range(1, logits.shape[1]):
        for n in range(len(target)):
            both = predicted = true = 0.0
            for y, x in np.ndindex(target[n].shape):
                if target[n, y, x] == IGNORE:
                    continue
                exps = [math.exp(v) for v in logits[n, :, y, x]]
                p, t = exps[k] / sum(exps), float(target[n, y, x] == k)
                both, predicted, true = both + p * t, predicted + p, true + t
            losses.append(1 - (2 * both + 1) / (predicted + true + 1))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("classes", [2, 4])
def test_dice_is_the_one_by_hand(classes: int) -> None:
    logits = image(2, classes, 3, 5, seed=1, dtype=torch.float64)
    target = torch.randint(0, classes, (2, 3, 5), generator=torch.Generator().manual_seed(2))
    target[0, 0, :2] = IGNORE
    loss = soft_dice_loss(logits, target, IGNORE)
    assert float(loss) == pytest.approx(by_hand(logits.numpy(), target.numpy()), rel=1e-9)


def test_dice_of_a_perfect_and_of_an_opposite_prediction() -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[:, :4] = 1
    logits = 50.0 * torch.stack([target == 0, target == 1], dim=1)
    assert float(soft_dice_loss(logits, target, IGNORE)) == pytest.approx(0)
    assert float(soft_dice_loss(-logits, target, IGNORE)) == pytest.approx(1 - 1 / 65)


def test_dice_of_nothing_where_there_is_nothing_is_perfect() -> None:
    target = torch.zeros(2, 4, 4, dtype=torch.int64)
    logits = torch.tensor([50.0, -50.0]).view(1, 2, 1, 1).expand(2, 2, 4, 4)
    assert float(soft_dice_loss(logits, target, IGNORE)) == pytest.approx(0)
    target[:] = IGNORE
    assert float(soft_dice_loss(logits, target, IGNORE)) == pytest.approx(0)


def test_labels_that_are_all_ignored_give_no_loss() -> None:
    target = torch.full((2, 3, 5), IGNORE)
    losses = {}
    for loss in (CrossEntropyDice(), RegionLoss({"a": [1]}, exclusive=True), RegionLoss(BRATS)):
        logits = image(2, 3, 3, 5)[:, : getattr(loss, "num_channels", 3)].requires_grad_()
        losses = loss(logits, target)
        assert {name: float(value.detach()) for name, value in losses.items()} == dict.fromkeys(
            losses, pytest.approx(0, abs=1e-6)
        )
        sum(losses.values()).backward()
        assert torch.isfinite(logits.grad).all() and not logits.grad.any()


def test_cross_entropy_is_torchs_mean_over_what_is_not_ignored() -> None:
    logits = image(2, 3, 3, 5)
    target = torch.randint(0, 3, (2, 3, 5), generator=torch.Generator().manual_seed(2))
    target[0, 0, :2] = IGNORE
    expected = F.cross_entropy(logits, target, ignore_index=IGNORE)
    torch.testing.assert_close(CrossEntropyDice()(logits, target)["loss_sem_seg"], expected)


def labels(values: list[int], shape: tuple[int, ...] = (2, 6, 7), seed: int = 4) -> torch.Tensor:
    index = torch.randint(0, len(values), shape, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(values)[index]


def region_loss(**options: object) -> RegionLoss:
    pytest.importorskip("monai")
    return RegionLoss(**options)


def test_targets_are_the_regions_which_may_overlap() -> None:
    given = torch.tensor([[[0, 1, 2, 4, IGNORE]]])
    expected = [[0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 0]]
    targets = region_loss(regions=BRATS).targets(given)
    assert targets[0, :, 0].tolist() == np.array(expected, bool).tolist()


def test_overlapping_regions_by_hand() -> None:
    """Binary cross-entropy over voxels that count, and Dice over the batch, in Python floats."""
    logits = image(2, 3, 6, 7, seed=5, dtype=torch.float64)
    given = labels([0, 1, 2, 4])
    given[1, :2] = IGNORE
    losses = region_loss(regions=BRATS, dice_weight=0.5)(logits, given)
    entropies, dices = [], []
    for k, values in enumerate(BRATS.values()):
        both = total = 0.0
        for n, y, x in np.ndindex(tuple(given.shape)):
            if given[n, y, x] == IGNORE:
                continue
            p = 1 / (1 + math.exp(-float(logits[n, k, y, x])))
            t = int(given[n, y, x]) in values
            entropies.append(-math.log(p if t else 1 - p))
            both, total = both + p * t, total + p + t
        dices.append(1 - (2 * both + 1e-5) / (total + 1e-5))
    assert float(losses["loss_ce"]) == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)
    assert float(losses["loss_dice"]) == pytest.approx(0.5 * sum(dices) / 3, rel=1e-5)


def test_exclusive_regions_are_classes_of_a_softmax() -> None:
    regions = {"core": [1, 4], "edema": [2]}
    loss = region_loss(regions=regions, exclusive=True)
    assert loss.num_channels == 3
    logits, given = image(2, 3, 6, 7, seed=6), labels([0, 1, 2, 4])
    classes = torch.tensor([0, 1, 2, -1, 1])[given]
    losses = loss(logits, given)
    torch.testing.assert_close(losses["loss_ce"], F.cross_entropy(logits, classes))
    probability = logits.softmax(dim=1)
    torch.testing.assert_close(loss.probabilities(logits), probability[:, 1:])
    dices = []
    for k in (1, 2):
        both = (probability[:, k] * (classes == k)).sum()
        dices.append(1 - 2 * both / (probability[:, k].sum() + (classes == k).sum()))
    torch.testing.assert_close(losses["loss_dice"], sum(dices) / 2, rtol=1e-4, atol=0)


@pytest.mark.parametrize("exclusive", [False, True])
def test_what_is_ignored_does_not_count(exclusive: bool) -> None:
    """The loss of half an image is that of the image whose other half is to be ignored."""
    loss = region_loss(regions={"lesion": [1]}, exclusive=exclusive)
    logits, given = image(2, loss.num_channels, 6, 8, seed=7), labels([0, 1], (2, 6, 8))
    half = loss(logits[..., :4], given[..., :4])
    given[..., 4:] = IGNORE
    for name, value in loss(logits, given).items():
        torch.testing.assert_close(value, half[name])


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("value", [0, 1, IGNORE])
def test_extremes_are_finite(exclusive: bool, value: int) -> None:
    loss = region_loss(regions={"lesion": [1]}, exclusive=exclusive)
    logits = torch.full((1, loss.num_channels, 4, 4), 80.0, requires_grad=True)
    total = sum(loss(logits, torch.full((1, 4, 4), value)).values())
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"regions": {}}, "there must be one"),
        ({"regions": {"a": []}}, "label values each"),
        ({"regions": {"a": [0, 1]}}, "0 is the background"),
        ({"regions": {"a": [255]}}, "255 is ignored"),
        ({"regions": {"a": [1, 2], "b": [2]}, "exclusive": True}, "overlap"),
    ],
)
def test_wrong_regions_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        RegionLoss(**options)
