"""Losses of segmentation heads: of maps of classes, and of regions that may overlap.

Shape shorthand in this module:
    N: images in the batch; K: channels of the logits; R: regions; H, W: the labels' size.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from inspire_d2.errors import InputError

__all__ = ["CrossEntropyDice", "RegionLoss", "soft_dice_loss"]


def soft_dice_loss(logits: torch.Tensor, target: torch.Tensor, ignore_value: int) -> torch.Tensor:
    """Return 1 - Dice of the foreground's probabilities, averaged over images and classes.

    logits (N, K, H, W), target (N, H, W) with 0 the background, which does not count. Sums are
    over an image; a class that is absent and not predicted has a Dice of 1.

    Source: V-Net (Milletari et al., 3DV 2016), without its squares, with 1 added to both sums.
    """
    valid = (target != ignore_value)[:, None]
    probability = logits.softmax(dim=1)[:, 1:] * valid
    label = torch.where(valid[:, 0], target, 0)
    truth = F.one_hot(label, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:] * valid
    both = (probability * truth).sum(dim=(2, 3))
    total = (probability + truth).sum(dim=(2, 3))
    return (1 - (2 * both + 1) / (total + 1)).mean()


class CrossEntropyDice(nn.Module):
    """Cross-entropy over all pixels, plus ``dice_weight`` times the soft Dice loss of the classes.

    Cross-entropy alone gives up small objects for the background; Dice does not. Raises InputError
    where the weight is below 0.
    """

    def __init__(self, dice_weight: float = 1.0, ignore_value: int = 255) -> None:
        super().__init__()
        _check_weight(dice_weight)
        self.dice_weight, self.ignore_value = dice_weight, ignore_value

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare logits (N, K, H, W) with classes (N, H, W), 0 the background.

        Where all labels are ignored the losses are 0.
        """
        logits = logits.float()
        entropy = F.cross_entropy(logits, labels, ignore_index=self.ignore_value, reduction="sum")
        valid = (labels != self.ignore_value).sum()
        losses = {"loss_sem_seg": entropy / valid.clamp(min=1)}
        if self.dice_weight:
            losses["loss_dice"] = self.dice_weight * soft_dice_loss(
                logits, labels, self.ignore_value
            )
        return losses


def _check_weight(dice_weight: float) -> None:
    if not dice_weight >= 0:
        raise InputError(f"dice_weight={dice_weight} must be 0 or more.")


class RegionLoss(nn.Module):
    """Cross-entropy and MONAI's Dice loss of regions, which are sets of label values.

    Regions may overlap, as a tumour's core lies within the whole tumour: each is a channel with a
    sigmoid and binary cross-entropy. With ``exclusive`` they are classes: a softmax over the
    background and them, and cross-entropy. The Dice loss's sums are over the batch, so that a patch
    without a region does not count as one wholly missed; over several GPUs, over each one's part
    of it, so that with few patches a GPU the loss is another.
    """

    def __init__(
        self,
        regions: Mapping[str, Sequence[int]],
        *,
        exclusive: bool = False,
        dice_weight: float = 1.0,
        ignore_value: int = 255,
    ) -> None:
        """Read the regions.

        Args:
            regions: name: the label values it consists of.
            exclusive: whether they are classes, of which a voxel has one at most.
            dice_weight: of the Dice loss beside the cross-entropy, 0 or more.
            ignore_value: the label of voxels that do not count, such as those of padding.

        Raises:
            InputError: MONAI is missing, or an argument is not what it should be.
        """
        super().__init__()
        _check_weight(dice_weight)
        if not isinstance(regions, Mapping):
            raise InputError(f"regions={regions}: must map names to lists of label values.")
        self.regions = {name: sorted(set(values)) for name, values in regions.items()}
        values = [value for region in self.regions.values() for value in region]
        if not self.regions or not all(self.regions.values()):
            raise InputError(f"regions={dict(regions)}: there must be one, with label values each.")
        if exclusive and len(set(values)) < len(values):
            raise InputError(f"regions={self.regions} overlap: with exclusive=True they may not.")
        if not set(values).isdisjoint((0, ignore_value)):
            raise InputError(
                f"regions={self.regions}: 0 is the background and {ignore_value} is ignored; store "
                "what is to be found as another label."
            )
        try:
            from monai.losses import DiceLoss  # takes seconds to import, and is an extra
        except ImportError as error:
            raise InputError("RegionLoss needs MONAI: pip install 'inspire_d2[medical]'") from error
        self.exclusive, self.dice_weight, self.ignore_value = exclusive, dice_weight, ignore_value
        self.dice = DiceLoss(batch=True)

    @property
    def num_channels(self) -> int:
        """K: of the logits."""
        return len(self.regions) + self.exclusive

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Map logits (N, K, ...) to the regions' probabilities (N, R, ...)."""
        return logits.softmax(dim=1)[:, 1:] if self.exclusive else logits.sigmoid()

    def targets(self, labels: torch.Tensor) -> torch.Tensor:
        """Map label values (N, H, W) to each region's mask, bool (N, R, H, W)."""
        masks = [
            torch.isin(labels, torch.tensor(values, device=labels.device))
            for values in self.regions.values()
        ]
        return torch.stack(masks, dim=1)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare logits (N, K, H, W) with label values (N, H, W)."""
        logits = logits.float()
        valid = (labels != self.ignore_value)[:, None]
        targets = self.targets(labels)
        if self.exclusive:
            classes = torch.arange(1, self.num_channels, device=labels.device)[:, None, None]
            classes = (targets * classes).sum(dim=1)
            entropy = F.cross_entropy(logits, classes, reduction="none")[:, None]
        else:
            entropy = F.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
            entropy = entropy.mean(dim=1, keepdim=True)
        losses = {"loss_ce": (entropy * valid).sum() / valid.sum().clamp(min=1)}
        if self.dice_weight:
            predicted = self.probabilities(logits) * valid
            losses["loss_dice"] = self.dice_weight * self.dice(predicted, (targets & valid).float())
        return losses
