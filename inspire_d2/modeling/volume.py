"""Segmentation of volumes, slice by slice.

Shape shorthand in this module:
    S: slices of a volume; B: slices at a time; C: channels; R: regions; H, W: a slice's size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor

from inspire_d2.errors import InputError, as_size

__all__ = ["VolumeSegmentor"]


class VolumeSegmentor(SemanticSegmentor):
    """Detectron2's SemanticSegmentor, which takes slices to train on and whole volumes to predict.

    The head's loss tells how logits become the regions' probabilities (RegionLoss).
    """

    def __init__(
        self,
        *,
        window: Sequence[int] | None = None,
        overlap: float = 0.5,
        slices_per_batch: int = 8,
        mirror: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build the model; arguments not named here are SemanticSegmentor's.

        Args:
            window: (height, width) of windows slid over a slice, whose overlapping predictions are
                blended (MONAI's sliding_window_inference); None predicts a whole slice at once.
            overlap: of neighbouring windows, as a share of their size, 0 to less than 1.
            slices_per_batch: B, or windows at a time: 1 or more.
            mirror: average the predictions of a slice and of its mirror images.

        Raises:
            InputError: a number out of its range; from forward, an image of other channels than
                the bottom-up's.
        """
        super().__init__(**kwargs)
        if not 0 <= overlap < 1:
            raise InputError(f"model.overlap={overlap} must be 0 or more, and less than 1.")
        if type(slices_per_batch) is not int or slices_per_batch < 1:
            raise InputError(
                f"model.slices_per_batch={slices_per_batch} must be a whole number, 1 or more."
            )
        self.window = None if window is None else as_size("model.window", window)
        self.overlap, self.slices_per_batch, self.mirror = overlap, slices_per_batch, mirror
        bottom_up = getattr(self.backbone, "bottom_up", self.backbone)
        # the first convolution's weight: out, in, height, width
        self._in_channels = next(p.shape[1] for p in bottom_up.parameters() if p.dim() == 4)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return losses in training, as SemanticSegmentor, or else a prediction per volume.

        To predict, an item's ``image`` is (S, C, H, W), of any floating type; the prediction is
        {"sem_seg": (R, S, H, W)}: probabilities, float16, on the CPU.
        """
        for item in batched_inputs:
            self._check_channels(item)
        if self.training:
            return super().forward(batched_inputs)
        return [{"sem_seg": self._predict(item)} for item in batched_inputs]

    def _check_channels(self, item: Mapping[str, Any]) -> None:
        channels = item["image"].shape[-3]
        if channels != self._in_channels:
            raise InputError(
                f"{item.get('file_name', 'an image')} has {channels} channels, the model's "
                f"bottom-up takes {self._in_channels}: with n neighbour slices on each side it "
                "must take 2 n + 1 times those of a slice."
            )

    @torch.no_grad()
    def _predict(self, item: Mapping[str, Any]) -> torch.Tensor:
        parts = []
        for batch in item["image"].split(self.slices_per_batch):
            slices = (batch.to(self.device).float() - self.pixel_mean) / self.pixel_std
            parts.append(self._mirrored(slices).transpose(0, 1).half().cpu())
        return torch.cat(parts, dim=1)

    def _mirrored(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of slices (B, C, H, W), averaged over mirror images."""
        flips: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1)) if self.mirror else ((),)
        total = sum(self._probabilities(slices.flip(axes)).flip(axes) for axes in flips)
        return total / len(flips)

    def _probabilities(self, slices: torch.Tensor) -> torch.Tensor:
        if self.window is None:
            return self._whole(slices)
        from monai.inferers import sliding_window_inference  # takes seconds to import

        return sliding_window_inference(
            slices,
            self.window,
            self.slices_per_batch,
            self._whole,
            overlap=self.overlap,
            mode="gaussian",
        )

    def _whole(self, slices: torch.Tensor) -> torch.Tensor:
        """Map slices (B, C, H, W) to probabilities (B, R, H, W)."""
        height, width = slices.shape[-2:]
        divisor = max(self.backbone.size_divisibility, 1)
        padded = F.pad(slices, (0, -width % divisor, 0, -height % divisor))
        logits, _ = self.sem_seg_head(self.backbone(padded))
        return self.sem_seg_head.loss.probabilities(logits[..., :height, :width].float())
