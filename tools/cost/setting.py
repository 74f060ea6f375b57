"""What a measurement is taken at."""

from dataclasses import dataclass

__all__ = ["MODES", "PRECISIONS", "SCOPES", "Setting"]

# Names on the command line and in results.json, and what a reader sees.
SCOPES = {
    "pyramid": "pyramid alone",
    "backbone": "ResNet-50 + pyramid",
    "detector": "Mask R-CNN R50",
}
MODES = {"forward": "forward", "train": "training step"}
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Setting:
    """A scope, the images, and how they are computed.

    Height and width are pixels of an image; both are 0 where it stands for settings of all sizes.
    """

    scope: str
    height: int
    width: int
    batch: int
    device: str = "cpu"
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    seed: int = 0

    def __str__(self) -> str:
        """Describe it in a heading."""
        words = [SCOPES[self.scope]] + [f"{self.height}x{self.width}"] * bool(self.height)
        words += [f"batch {self.batch}", self.device, self.precision]
        words += ["channels last"] * self.channels_last + ["compiled"] * self.compile
        return ", ".join(words)
