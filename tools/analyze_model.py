#!/usr/bin/env python
"""Tell how large models are: parameters, multiply-adds and activations of each part.

    python tools/analyze_model.py configs/coco/mask_rcnn_r50_{fpn,inspire}_1x.py
    python tools/analyze_model.py configs/polyp/mask_rcnn_r18_{fpn,inspire}.py --size 256 256
    python tools/analyze_model.py CONFIG --set model.backbone.steps=1

One forward pass of one random image, weights random, on the CPU. How many RoIs there are would
depend on the weights: here all proposals are anchors of equal score and none suppresses another,
so that heads have as much to do as the config allows. Several configs are set side by side, with
ratios to the first.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # works without an install

# Detectron2's model zoo imports it, and nothing is to be done about it here.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")

import torch
from torch import nn

from inspire_d2.engine.build import build as build_part
from inspire_d2.engine.config import load_config
from inspire_d2.engine.norms import fit_sync_batch_norm
from inspire_d2.errors import InputError, exit_on_input_error
from inspire_d2.modeling import InspireFPN
from tools.cost.flops import count_activations, count_flops

# Part of a model: how the names of its modules begin. What is in none of them is "other".
PARTS = {
    "bottom-up": ("backbone.bottom_up.", "backbone.feedback_"),
    "pyramid: lateral and output": ("backbone.fpn_", "backbone.top_block."),
    "pyramid: ISE": ("backbone.ise",),
    "pyramid: ISA": ("backbone.align", "backbone.fusion"),
    "pyramid: SSBA": ("backbone.ssba",),
    "proposals": ("proposal_generator.",),
    "RoI heads": ("roi_heads.",),
    "semantic head": ("sem_seg_head.",),
    "dense head": ("head.",),
}

BACKBONE = [part for part, starts in PARTS.items() if starts[0].startswith("backbone.")]


@dataclass(frozen=True)
class Size:
    """What a part, or a whole model, holds and does."""

    parameters: int
    flops: int
    activations: int


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; exits with 2 on wrong input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("configs", nargs="+", metavar="CONFIG")
    add("--size", nargs=2, type=int, default=(800, 1333), metavar=("HEIGHT", "WIDTH"))
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of each config")
    add("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        if min(args.size) < 32:
            raise InputError(f"--size {args.size[0]} {args.size[1]}: 32 pixels at least.")
        if args.json and not args.json.parent.is_dir():
            raise InputError(f"--json {args.json}: there is no folder {args.json.parent}.")
        if args.json and args.json.is_dir():
            raise InputError(f"--json {args.json} is a folder: name a file.")
        if len(set(args.configs)) < len(args.configs):
            raise InputError("a config is named twice.")
        stems = [Path(path).stem for path in args.configs]
        sizes = {}
        for path, stem in zip(args.configs, stems, strict=True):
            name = stem if stems.count(stem) == 1 else path
            sizes[name], uncounted = analyze_config(path, args.set, *args.size)
            print(table(name, sizes), flush=True)
            print(f"Not counted: {describe(uncounted)}.\n", flush=True)
        if args.json:
            text = {n: {p: asdict(s) for p, s in parts.items()} for n, parts in sizes.items()}
            try:
                args.json.write_text(json.dumps(text, indent=2))
            except OSError as error:
                raise InputError(f"{args.json} cannot be written: {error.strerror}.") from error


def analyze_config(
    path: str, overrides: Sequence[str], height: int, width: int
) -> tuple[dict[str, Size], Counter]:
    """Do what analyze does for a config's model; raise InputError where it cannot be computed."""
    try:
        return analyze(build(path, overrides), height, width)
    except (AssertionError, RuntimeError) as error:  # of parts that do not fit each other
        reason = " ".join(str(error).split())
        raise InputError(
            f"the model of {path} cannot compute an image of {height}x{width}: {reason}"
        ) from error


def build(path: str, overrides: Sequence[str] = ()) -> nn.Module:
    """Build a config's model for counting."""
    torch.manual_seed(0)
    model = build_part(load_config(path, overrides).model, "model")
    model = fit_sync_batch_norm(model, on_gpu=False)
    for module in model.modules():
        # Predictors of zeros: a box stays what it was, and all scores are equal.
        for name in ("objectness_logits", "anchor_deltas", "cls_score", "bbox_pred"):
            layer = getattr(module, name, None)
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(layer.weight)
        for name, value in (("nms_thresh", 1.0), ("test_nms_thresh", 1.0)):
            if hasattr(module, name):
                setattr(module, name, value)
        if hasattr(module, "test_score_thresh"):
            module.test_score_thresh = 0.0
    return model.eval()


def analyze(model: nn.Module, height: int, width: int) -> tuple[dict[str, Size], Counter]:
    """Return the size of each part and of "all", and what was not counted, by operator."""
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) * 255
    inputs = [{"image": image}]
    with torch.no_grad():
        flops, uncounted = count_flops(model, inputs)
        activations = count_activations(model, inputs)
    parameters: Counter = Counter()
    for name, parameter in model.named_parameters():
        parameters[part_of(name)] += parameter.numel()
    # A part's work is that of its outermost modules: others are within them.
    work = {"flops": Counter(), "activations": Counter()}
    for kind, counts in (("flops", flops), ("activations", activations)):
        for name in outermost(counts):
            work[kind][part_of(name + ".")] += counts[name]
        # What InspireFPN itself computes, outside of any module's forward: alignment and fusion.
        if isinstance(getattr(model, "backbone", None), InspireFPN):
            within = sum(work[kind][part] for part in BACKBONE)
            work[kind]["pyramid: ISA"] += counts["backbone"] - within
        rest = counts[""] - sum(work[kind].values())
        work[kind]["other"] += rest
    sizes = {
        part: Size(parameters[part], work["flops"][part], work["activations"][part])
        for part in (*PARTS, "other")
    }
    total = Size(sum(parameters.values()), flops[""], activations[""])
    return {k: v for k, v in sizes.items() if any(asdict(v).values())} | {"all": total}, uncounted


def part_of(name: str) -> str:
    """Name the part that a parameter or module, its name ending in a dot, belongs to."""
    return next((p for p, starts in PARTS.items() if name.startswith(starts)), "other")


def outermost(names: Counter) -> list[str]:
    """Choose the modules that belong to a part, and are within no other such module."""
    inside = sorted(name for name in names if name and part_of(name + ".") != "other")
    chosen: list[str] = []
    for name in inside:
        if not any(name.startswith(f"{other}.") for other in chosen):
            chosen.append(name)
    return chosen


def table(name: str, sizes: dict[str, dict[str, Size]]) -> str:
    """Lay out one model's parts, with ratios to the first model's where it is another."""
    first, mine = next(iter(sizes.values())), sizes[name]
    lines = [
        f"| {name} | M parameters | G multiply-adds | M activations | x first's multiply-adds |",
        "|---|---|---|---|---|",
    ]
    for part, size in mine.items():
        base = first.get(part)
        ratio = f"{size.flops / base.flops:.2f}" if base and base.flops else "-"
        lines.append(
            f"| {part} | {size.parameters / 1e6:.2f} | {size.flops / 1e9:.2f} | "
            f"{size.activations / 1e6:.2f} | {ratio} |"
        )
    return "\n".join(lines)


def describe(uncounted: Counter) -> str:
    """Say how often operators ran whose work is not known."""
    if not uncounted:
        return "nothing"
    return ", ".join(f"{op} x {count}" for op, count in sorted(uncounted.items()))


if __name__ == "__main__":
    main()
