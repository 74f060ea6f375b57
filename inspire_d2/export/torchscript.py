"""TorchScript behind the interface of onnxruntime's sessions."""

from pathlib import Path

import numpy as np
import torch
import torchvision  # noqa: F401  # its operators, such as NMS, are known once it is imported

__all__ = ["Session"]


class Session:
    """Run an exported model.ts in place of onnxruntime: ``Model(folder, Session(file))``."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:  # torch takes no name that is not UTF-8
            self._graph = torch.jit.load(file)

    @torch.no_grad()
    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return all outputs for an image, float32 (3, h, w)."""
        outputs = self._graph(torch.from_numpy(inputs["image"]))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [output.numpy() for output in outputs]
