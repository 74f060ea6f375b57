#!/usr/bin/env python
"""Run an exported model with onnxruntime and numpy alone.

    python run_onnx.py polyp.jpg                  # needs Pillow, too, to read the file
    python run_onnx.py polyp.jpg --mask mask.png

    from run_onnx import Model
    found = Model(".")(image)                     # an array uint8 (H, W, 3), RGB

Takes model.onnx and model.json of its own folder. Boxes, masks and maps are of the image's own
size, as inspire_d2.load gives them. This file stands alone: copy it where it is needed.

Shape shorthand: N detections, K classes, H, W (pixels of the image), h, w (of the model's input).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

BITS = 22  # of Pillow's weights of 8-bit images
MASK_BYTES = 200_000_000  # of all masks of an image: of a large one the best detections alone


class Model:
    """An exported model as a function of an image."""

    def __init__(self, folder: str | Path, session: Any = None) -> None:
        """Load a folder's model; ``session`` may stand in for onnxruntime's."""
        folder = Path(folder)
        names = ["model.json", *(["model.onnx"] if session is None else [])]
        if lacking := [name for name in names if not (folder / name).is_file()]:
            raise FileNotFoundError(
                f"{folder} holds no {' and no '.join(lacking)}: export them anew"
            )
        self.about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if session is None:
            import onnxruntime

            providers = onnxruntime.get_available_providers()
            session = onnxruntime.InferenceSession(folder / "model.onnx", providers=providers)
        self.session = session

    def __call__(self, image: np.ndarray, channel_order: str = "RGB") -> Any:
        """Predict an image, uint8 (H, W, 3).

        Returns:
            Of a detector {"boxes": (N, 4) as left, top, right, bottom, "scores": (N,), "classes":
            (N,), "masks": bool (N, H, W) where it has them}, the best first; of a segmenter
            float32 (H, W), the foreground's probability, or (K, H, W) of more classes.

        Raises:
            ValueError: the image is of another type or shape, or too narrow.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image is uint8 (H, W, 3), not {image.dtype} {image.shape}")
        size = image.shape[:2]
        pixels = image if channel_order == self.about["channel_order"] else image[:, :, ::-1]
        inside = input_size(*size, self.about["resize"])
        if min(inside) < 1:
            raise ValueError(
                f"an image of {size[1]}x{size[0]} cannot be brought to the size that the model "
                f"takes ({inside[1]}x{inside[0]})"
            )
        pixels = resize_image(pixels, *inside)
        chw = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
        outputs = self.session.run(None, {"image": chw})
        if self.about["kind"] == "segmenter":
            return probabilities(resize_map(outputs[0], *size), self.about)
        found = dict(zip(self.about["outputs"], outputs, strict=True))
        return detections(found, chw.shape[1:], size)


def input_size(height: int, width: int, rule: dict[str, Any]) -> tuple[int, int]:
    """Return h and w for an image: fixed ones, or the shorter edge's with a limit to the longer."""
    if "height" in rule:
        return rule["height"], rule["width"]
    short = rule["short_edge"]
    scale = short / min(height, width)
    h, w = (short, scale * width) if height < width else (scale * height, short)
    if max(h, w) > rule["max_size"]:
        scale = rule["max_size"] / max(h, w)
        h, w = h * scale, w * scale
    return int(h + 0.5), int(w + 0.5)


def resize_image(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) as Pillow's BILINEAR does, which averages where it makes smaller."""
    for axis, size in ((1, width), (0, height)):
        if size == pixels.shape[axis]:
            continue
        weights = pillow_weights(pixels.shape[axis], size)
        # Whole numbers below 2^53, so that sums in float64 are exact.
        moved = np.moveaxis(pixels, axis, 0)
        flat = weights @ moved.reshape(len(moved), -1).astype(np.float64)
        flat = (flat.astype(np.int64) + (1 << BITS - 1)) >> BITS
        moved = flat.clip(0, 255).astype(np.uint8).reshape(size, *moved.shape[1:])
        pixels = np.moveaxis(moved, 0, axis)
    return pixels


def pillow_weights(before: int, after: int) -> np.ndarray:
    """Return Pillow's weights of ``before`` pixels in each of ``after``, in units of 2^-22."""
    scale = before / after
    support = max(scale, 1.0)
    weights = np.zeros((after, before))
    for row, centre in enumerate((np.arange(after) + 0.5) * scale):
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), before)
        hat = 1 - np.abs((np.arange(first, last) - centre + 0.5) / support)
        weights[row, first:last] = hat.clip(min=0) / hat.clip(min=0).sum()
    return np.floor(weights * (1 << BITS) + 0.5)


def hats(positions: np.ndarray, size: int) -> np.ndarray:
    """Return the weights of linear interpolation: (positions, size), 0 beyond the ends."""
    distance = np.abs(positions[:, None] - np.arange(size))
    return np.maximum(0, 1 - distance).astype(np.float32)


def resize_map(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (K, h, w) bilinearly to (K, H, W), as PyTorch does without aligned corners."""
    rows, columns = (
        hats(((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1), old)
        for new, old in zip((height, width), maps.shape[1:], strict=True)
    )
    return rows @ maps @ columns.T


def probabilities(logits: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Return what the model is sure of: (H, W), or (K, H, W) of more classes than one."""
    if about["activation"] == "softmax":
        powers = np.exp(logits - logits.max(axis=0))
        maps = powers / powers.sum(axis=0)
    else:
        maps = 1 / (1 + np.exp(-logits))
    maps = maps[1:] if about["background"] else maps
    return maps[0] if len(maps) == 1 else maps


def detections(
    found: dict[str, np.ndarray], inside: tuple[int, ...], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Bring boxes and masks from the model's input (h, w) to the image (H, W)."""
    if "masks" in found:
        best = slice(max(5, MASK_BYTES // (size[0] * size[1])))
        found = {name: array[best] for name, array in found.items()}
    limits = np.array([*size[::-1], *size[::-1]], np.float32)
    scale = limits / np.array([*inside[::-1], *inside[::-1]], np.float32)
    boxes = (found["boxes"] * scale).clip(0, limits)
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    result = {name: array[keep] for name, array in found.items() if name != "masks"}
    result["boxes"] = boxes[keep]
    if "masks" in found:
        result["masks"] = paste(found["masks"][keep], boxes[keep], size)
    return result


def paste(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch masks (N, M, M) over their boxes: bool (N, H, W)."""
    pasted = np.zeros((len(masks), *size), bool)
    for canvas, mask, (left, top, right, bottom) in zip(pasted, masks, boxes, strict=True):
        window, weights = [], []
        for low, high, limit in ((top, bottom, size[0]), (left, right, size[1])):
            first, last = max(int(np.floor(low)) - 1, 0), min(int(np.ceil(high)) + 1, limit)
            pixels = np.arange(first, last) + 0.5
            window.append(slice(first, last))
            weights.append(hats((pixels - low) / (high - low) * len(mask) - 0.5, len(mask)))
        canvas[tuple(window)] = weights[0] @ mask @ weights[1].T >= 0.5
    return pasted


def filled(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fill boxes (N, 4): bool (H, W)."""
    mask = np.zeros(size, bool)
    for left, top, right, bottom in boxes.round().astype(int):
        mask[top:bottom, left:right] = True
    return mask


def main() -> None:
    """Predict one image file; print what is found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image")
    parser.add_argument("--mask", help="write what is found, 255 on 0; boxes where it has no masks")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score (default 0.5)")
    args = parser.parse_args()
    from PIL import Image, ImageOps

    try:
        model = Model(Path(__file__).parent)
    except Exception as error:  # onnxruntime's are of a kind each
        parser.error(f"the model cannot be loaded: {error}")
    try:
        with Image.open(args.image) as file:
            if file.mode[0] in "IF":
                parser.error(f"{args.image} has more than 8 bits a pixel: scale it to 0..255")
            image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except Exception as error:  # a broken file can make Pillow raise anything
        parser.error(f"{args.image} cannot be read as an image: {error}")
    try:
        found = model(image)
    except ValueError as error:
        parser.error(f"{args.image}: {error}")
    if isinstance(found, dict):
        best = found["scores"] >= args.threshold
        for box, score in zip(found["boxes"][best], found["scores"][best], strict=True):
            print(f"score {score:.3f}  box {', '.join(f'{side:.1f}' for side in box)}")
        mask = found["masks"][best].any(axis=0) if "masks" in found else None
        if mask is None:
            mask = filled(found["boxes"][best], image.shape[:2])
    elif found.ndim == 2:
        mask = found >= args.threshold
        print(f"{mask.mean():.2%} of the image")
    else:
        parser.error(f"the model segments {len(found)} classes: call Model, which returns them all")
    if args.mask:
        try:
            Image.fromarray(mask.astype(np.uint8) * 255).save(args.mask)
        except (OSError, ValueError) as error:  # a folder that is not there, a kind not known
            parser.error(f"{args.mask} cannot be written: {error}")


if __name__ == "__main__":
    main()
