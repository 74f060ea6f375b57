#!/usr/bin/env python
"""Check that training works: overfit a few real COCO images until their masks are found.

    python tools/overfit.py
    python tools/overfit.py --config-file configs/coco/htc_without_semantic_r50_fpn_1x.py

Trains a config of configs/coco on the first images of COCO val2017 (by id; with objects, without
crowds) and scores it on the same ones, which tells nothing of other images: it fails where data,
losses or scoring do not fit together. Exits with 1 where mask AP50 stays below 90.

So that it takes minutes on a CPU, the model becomes small: ResNet-18 up to res4, three levels, a
quarter of the channels, fewer RoIs; stages, heads and losses stay the config's. Images are resized
and nothing else. tools/convert_torchvision.py makes the weights, as README.md shows; COCO lies in
DETECTRON2_DATASETS.

Writes to --output: annotations.json of the images, what train_net.py writes, predictions.png.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIGS = REPOSITORY / "configs"
SOURCE, NAME = "coco_2017_val", "coco_overfit"  # of data sets: all images, and those chosen
WANTED = 90.0  # mask AP50, in percent
# Channels of a config's pyramid and heads -> here.
WIDTHS = {256: 64, 1024: 256}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score, draw; exits with 1 where AP50 is low, 2 on wrong input, 130 on Ctrl-C."""
    args = parse(argv)
    try:
        with exit_on_input_error():
            cfg = prepare(args)
            start = time.monotonic()
            results = train(cfg)
            seconds = time.monotonic() - start
            draw(cfg)
    except KeyboardInterrupt:
        print(f"interrupted; {args.output} holds what there is so far", file=sys.stderr)
        sys.exit(130)
    print(f"\n{args.images} images, {args.iterations} iterations, {seconds:.0f} s:")
    for task, name in (("segm", "mask"), ("bbox", "box")):
        print(f"  {name} AP {results[task]['AP']:.1f}, AP50 {results[task]['AP50']:.1f}")
    print(f"Look at {args.output / 'predictions.png'}")
    found = results["segm"]["AP50"]
    if math.isnan(found) or found < WANTED:
        print(f"failed: mask AP50 is {found:.1f}, not {WANTED:.0f}.", file=sys.stderr)
        sys.exit(1)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    config = CONFIGS / "coco/htc_without_semantic_r50_inspire_1x.py"
    add("--config-file", type=Path, default=config, metavar="FILE", help="an R-CNN with masks")
    weights = Path("weights/r18_imagenet_d2.pkl")
    add("--weights", type=Path, default=weights, metavar="FILE", help="ImageNet ResNet-18")
    add("--images", type=int, default=8, help="how many")
    add("--iterations", type=int, default=400, help="of 2 images each")
    add("--size", type=int, default=320, help="shorter side of the images, in pixels")
    add("--seed", type=int, default=0)
    add("--output", type=Path, default=Path("runs/overfit"))
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> "DictConfig":
    """Check the arguments; write and register the data set; return the config of the run.

    Raises:
        InputError: an argument cannot be used, or the data, weights or config are not there.
    """
    for name, least in (("images", 1), ("iterations", 1), ("size", 64)):
        if getattr(args, name) < least:
            raise InputError(f"--{name} {getattr(args, name)}: must be {least} or more.")
    if not args.weights.is_file():
        raise InputError(
            f"--weights {args.weights} does not exist: make it with tools/convert_torchvision.py."
        )

    from inspire_d2.engine.config import load_config
    from inspire_d2.engine.device import resolve_device
    from inspire_d2.engine.precision import fit_to_device

    cfg = load_config(str(args.config_file))
    shrink_model(cfg.model)
    dataset = register_images(args.images, args.output)
    use_images(cfg.dataloader, dataset, args.size)
    use_schedule(cfg, args.iterations)
    cfg.train.update(
        output_dir=str(args.output),
        init_checkpoint=str(args.weights),
        seed=args.seed,
        amp={"enabled": True},
        channels_last=True,
        device=resolve_device(None),
    )
    fit_to_device(cfg.train, cfg.train.device)
    return cfg


def register_images(count: int, output: Path) -> str:
    """Write the annotations of the first ``count`` images out and register them; return the name.

    Raises:
        InputError: COCO is not there or has fewer such images, or the folder holds another run.
    """
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.datasets import register_coco_instances

    source = MetadataCatalog.get(SOURCE)
    if not os.path.isfile(source.json_file):
        raise InputError(
            f"{source.json_file} does not exist: set DETECTRON2_DATASETS to the folder that holds "
            "coco/."
        )
    if (output / "last_checkpoint").exists():
        raise InputError(f"{output} holds the checkpoints of a run: name another --output.")
    content = json.loads(Path(source.json_file).read_text())
    with_objects = {one["image_id"] for one in content["annotations"]}
    with_crowds = {one["image_id"] for one in content["annotations"] if one["iscrowd"]}
    usable = with_objects - with_crowds
    images = sorted((i for i in content["images"] if i["id"] in usable), key=lambda i: i["id"])
    if len(images) < count:
        raise InputError(f"--images {count}: {source.json_file} has {len(images)} to choose from.")
    chosen = {image["id"] for image in images[:count]}
    content["images"] = images[:count]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in chosen]
    try:
        output.mkdir(parents=True, exist_ok=True)
        path = output / "annotations.json"
        path.write_text(json.dumps(content))
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}.") from error
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    register_coco_instances(NAME, {}, str(path), source.image_root)
    return NAME


def shrink_model(model: "DictConfig") -> None:
    """Give an R-CNN's config the bottom-up, levels and widths that a CPU trains in minutes.

    Raises:
        InputError: a model without RoI heads or without masks, or one that learns from stuff maps.
    """
    from detectron2.config import LazyConfig

    heads = model.get("roi_heads")
    if not heads or not any(key in heads for key in ("mask_head", "mask_heads")):
        raise InputError("--config-file: only R-CNNs with masks (Mask, Cascade, HTC) are trained.")
    if "semantic_branch" in heads or "sem_seg_head" in model:
        raise InputError(
            "--config-file: the model learns from stuff maps, too; take htc_without_semantic."
        )
    small = LazyConfig.load(str(CONFIGS / "common/models/mask_rcnn_r18.py")).model
    for key in ("input_format", "pixel_mean", "pixel_std", "proposal_generator"):
        model[key] = small[key]
    small.backbone.bottom_up.freeze_at = model.backbone.bottom_up.freeze_at
    model.backbone.bottom_up = small.backbone.bottom_up
    model.backbone.top_block = None
    model.backbone.out_channels = model.proposal_generator.head.in_channels = WIDTHS[256]
    # Objects from 8 pixels to the whole image.
    model.proposal_generator.anchor_generator.sizes = [[8, 16], [32, 64], [128, 256]]
    heads.batch_size_per_image = small.roi_heads.batch_size_per_image
    for kind in ("box", "mask"):
        heads[f"{kind}_in_features"] = small.roi_heads[f"{kind}_in_features"]
        heads[f"{kind}_pooler"].scales = small.roi_heads[f"{kind}_pooler"].scales
    narrow(heads)


def narrow(node: Any, key: str = "") -> None:
    """Replace channel counts, which stand under keys such as in_channels and conv_dims."""
    from omegaconf import DictConfig, ListConfig

    if not isinstance(node, (DictConfig, ListConfig)):
        return
    for child in list(node) if isinstance(node, DictConfig) else range(len(node)):
        name = str(child) if isinstance(node, DictConfig) else key
        value = node._get_node(child)  # interpolations stay what they are
        if isinstance(value, (DictConfig, ListConfig)):
            narrow(value, name)
        elif "channels" in name or name.endswith("dims"):
            node[child] = WIDTHS.get(node[child], node[child])


def use_images(dataloader: "DictConfig", dataset: str, size: int) -> None:
    """Train and score on one data set, its images resized and nothing else."""
    import detectron2.data.transforms as T
    from detectron2.config import LazyCall as L

    dataloader.train.mapper.image_format = "RGB"
    dataloader.train.total_batch_size = 2
    for split in ("train", "test"):
        dataloader[split].dataset.names = dataset
        dataloader[split].num_workers = 0
        # max_size in COCO's proportion of 1333 to 800
        resize = L(T.ResizeShortestEdge)(short_edge_length=size, max_size=size * 5 // 3)
        dataloader[split].mapper.augmentations = [resize]


def use_schedule(cfg: "DictConfig", iterations: int) -> None:
    """Train with AdamW, at a rate that falls along a cosine and is not scaled by the batch."""
    from detectron2.config import LazyConfig

    cfg.optimizer = LazyConfig.load(str(CONFIGS / "common/optim.py")).AdamW
    cfg.optimizer.lr = 1e-3
    cfg.lr_multiplier = LazyConfig.load(str(CONFIGS / "common/schedule.py")).cosine
    cfg.train.max_iter = iterations
    cfg.train.checkpointer.period = iterations
    cfg.train.lr_scaling.enabled = False
    cfg.train.lr_scaling.batch_size = None


def train(cfg: "DictConfig") -> dict[str, Any]:
    """Run what train_net.py runs, in this process; return {task: {metric: value}}."""
    from inspire_d2.engine.config import save_config
    from inspire_d2.engine.run_setup import set_up_run
    from inspire_d2.engine.trainer import run_training

    set_up_run(cfg, argparse.Namespace())
    save_config(cfg, os.path.join(cfg.train.output_dir, "config.yaml"))
    return run_training(cfg)


def draw(cfg: "DictConfig") -> None:
    """Draw ground truth and predictions of all images."""
    from detectron2.data import DatasetCatalog

    from inspire_d2.visualization import prediction_grid, read_predictions

    output = Path(cfg.train.output_dir)
    dicts = DatasetCatalog.get(cfg.dataloader.test.dataset.names)
    predictions = read_predictions(output / "coco_instances_results.json", dicts)
    prediction_grid(dicts, predictions, output / "predictions.png", num_images=len(dicts))


if __name__ == "__main__":
    main()
