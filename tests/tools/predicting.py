"""A stand-in for a trained model, images for it, and tools/predict.py run on them."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import sem_seg_postprocess

from tools.predict import main


class Reddest(torch.nn.Module):
    """A segmenter that is sure of red pixels; ``on_batch`` is called before each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches, self.on_batch = [], lambda: None

    def forward(self, items: list[dict]) -> list[dict]:
        self.batches.append(len(items))
        self.on_batch()
        outputs = []
        for item in items:
            red = item["image"][0].float()  # the config's images are RGB
            logits = torch.stack([128 - red, red - 128]) / 20
            size = item["height"], item["width"]
            outputs.append({"sem_seg": sem_seg_postprocess(logits, red.shape, *size)})
        return outputs


def disc(x: int, value: int = 250, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A red disc of radius 12 on a dark image, BGR."""
    image = np.full((*size, 3), 20, np.uint8)
    cv2.circle(image, (x, 30), 12, (20, 20, value), -1)
    return image


def write_images(folder: Path, *names: str, **kwargs: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), disc(30 + 5 * index, **kwargs))


def write_video(path: Path, frames: int) -> None:
    path.parent.mkdir(exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for index in range(frames):
        writer.write(disc(20 + 4 * index))
    writer.release()


def predict(folder: Path, *words: str) -> tuple[Path, list[dict[str, str]]]:
    """Run the tool on ``folder``/in; return where its output is, and the lines of its csv."""
    output = folder / "out"
    words = words if "--input" in words else ("--input", str(folder / "in"), *words)
    main(["--run", "any", "--output", str(output), *words])
    return output, rows_of(output)


def rows_of(output: Path) -> list[dict[str, str]]:
    with open(output / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def code_of(*arguments: object) -> int:
    """The exit code of :func:`predict`."""
    with pytest.raises(SystemExit) as ended:
        predict(*arguments)
    return ended.value.code
