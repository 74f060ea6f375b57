#!/usr/bin/env python
"""Turn torchvision's ImageNet weights of a ResNet or ResNeXt into a Detectron2 checkpoint.

    python tools/convert_torchvision.py resnet18 weights/r18_imagenet_d2.pkl

torchvision downloads the weights; with --weights FILE it reads a file that is already there.
Models that use them take RGB images, torchvision's mean and standard deviation, and bottleneck
blocks with stride_in_1x1=False.
"""

import argparse
import pickle
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

import numpy as np
import torch
import torchvision

from inspire_d2.errors import InputError, exit_on_input_error
from inspire_d2.files import written_in_one_step

RENAMES = (
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"\bdownsample\.0\.", "shortcut."),
    (r"\bdownsample\.1\.", "shortcut.norm."),
    (r"\bbn(\d)\.", r"conv\1.norm."),
)


def convert(state_dict: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Rename torchvision's tensors as Detectron2's ResNet has them; the classifier is left out."""
    converted = {}
    for key, value in state_dict.items():
        if key.startswith("fc.") or key.endswith("num_batches_tracked"):
            continue
        for pattern, name in RENAMES:
            key = re.sub(pattern, name, key)
        converted[key] = value.numpy()
    return converted


def load(arch: str, weights: Path | None) -> dict[str, torch.Tensor]:
    """Read the weights of an architecture from a file, or let torchvision download them.

    Raises:
        InputError: no such architecture, or the weights cannot be had.
    """
    names = [name for name in torchvision.models.list_models() if re.match("(wide_)?resne", name)]
    if arch not in names:
        raise InputError(f"{arch} is not one of {', '.join(names)}.")
    try:
        if weights is None:
            return torchvision.models.get_model(arch, weights="DEFAULT").state_dict()
        state_dict = torch.load(weights, map_location="cpu", weights_only=True)
        torchvision.models.get_model(arch).load_state_dict(state_dict)
        return state_dict
    except Exception as error:
        # Download, file format and shapes fail each in their own way.
        source = weights or "torchvision's download"
        raise InputError(f"no {arch} weights from {source}: {type(error).__name__}.") from error


def main(argv: list[str] | None = None) -> None:
    """Convert as the command line says; exits with 2 on wrong input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arch", help="resnet18, resnet50, resnext101_32x8d, ...")
    parser.add_argument("output", type=Path, help="the .pkl to write")
    parser.add_argument("--weights", type=Path, help="torchvision's file, if it is here already")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        if args.output.suffix != ".pkl" or args.output.is_dir():
            raise InputError(f"{args.output}: name a file that ends in .pkl.")
        with written_in_one_step(args.output) as file:  # before the download
            tensors = convert(load(args.arch, args.weights))
            content = {"model": tensors, "__author__": "torchvision", "matching_heuristics": True}
            pickle.dump(content, file)
        print(f"wrote {len(tensors)} tensors to {args.output}")


if __name__ == "__main__":
    main()
