#!/usr/bin/env python
"""Show what INSPIRE's parts do on real images: lambda, offsets, gates, first and second step.

    python tools/inspect_pyramid.py --run runs/polyp/semantic_fpn_r18_inspire --count 6
    python tools/inspect_pyramid.py --run runs/polyp/semantic_fpn_r18_inspire --images my/*.jpg

Takes the run's config.yaml and last checkpoint. Without --images it takes images of the run's test
set that have a polyp. Writes a png an image to --output and prints a table of each part's values:
lambda = 1, a flow of 0, an ISE share of 0 are what FPN does.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error, first_few


def main(argv: list[str] | None = None) -> None:
    """Write the pictures and print the table; exits with 2 on wrong input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="output folder of train_net.py")
    parser.add_argument("--images", type=Path, nargs="+", help="default: some of the test set")
    parser.add_argument("--count", type=int, default=4, help="of the test set (default 4)")
    parser.add_argument("--output", type=Path, default=Path("runs/inspect"))
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides of the config")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        try:
            inspect(args)
        except OSError as error:
            raise InputError(f"{error}.") from error  # of a folder that cannot be written to


def inspect(args: argparse.Namespace) -> None:
    """Do it; raises InputError where the run, its model or an image cannot be used."""
    import torch
    from detectron2.config import instantiate
    from detectron2.data import DatasetMapper
    from tabulate import tabulate

    from inspire_d2.engine.trained import load_trained
    from inspire_d2.modeling import InspireFPN
    from inspire_d2.visualization.pyramid import draw_record, record, summarize
    from tools.predict import unique_names

    if args.count < 1:
        raise InputError("--count must be 1 or more.")
    cfg, model = load_trained(args.run, args.opts)
    if not isinstance(model.backbone, InspireFPN):
        raise InputError(f"{args.run} trained no InspireFPN but {type(model.backbone).__name__}.")
    mapper = instantiate(cfg.dataloader.test.mapper)
    if not isinstance(mapper, DatasetMapper):
        raise InputError(f"{args.run} was not trained on images, of which alone parts are shown.")
    dicts = given_images(args.images) if args.images else test_images(cfg, args.count)
    files = [Path(item["file_name"]) for item in dicts]
    paths = [args.output / f"{name}.png" for name in unique_names(files)]
    inputs = {file.resolve() for file in files}
    if own := [str(path) for path in paths if path.resolve() in inputs]:
        raise InputError(f"--output {args.output} would replace the input {first_few(own, 3)}.")
    args.output.mkdir(parents=True, exist_ok=True)
    records = []
    for item, path in zip(dicts, paths, strict=True):
        mapped = mapped_by(mapper, item)
        with record(model.backbone) as made, torch.no_grad():
            output = model([mapped])[0]
        records.append(made)
        image = mapped["image"].permute(1, 2, 0).numpy()
        if cfg.dataloader.test.mapper.image_format == "BGR":
            image = image[:, :, ::-1]
        size = image.shape[:2]
        draw_record(made, image, resize(truth_of(item), size) > 0.5,
                    resize(probability_of(output), size), path)  # fmt: skip
        print(f"wrote {path}")
    rows = summarize(records)
    print(tabulate(rows[1:], rows[0], tablefmt="github"))


def given_images(paths: list[Path]) -> list[dict[str, Any]]:
    """Return dataset dicts of files."""
    from PIL import Image, UnidentifiedImageError

    from inspire_d2.data.images import upright_size

    dicts = []
    for path in paths:
        try:
            with Image.open(path) as image:
                width, height = upright_size(image)
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"{path} cannot be read as an image: {error}.") from error
        dicts.append({"file_name": str(path), "width": width, "height": height})
    return dicts


def test_images(cfg: Any, count: int) -> list[dict[str, Any]]:
    """Return ``count`` images of the run's test set that have an annotation, evenly spaced."""
    from detectron2.config import instantiate

    from inspire_d2.engine.checks import check_datasets
    from inspire_d2.visualization.grid import spread

    check_datasets(cfg, ("test",))
    dicts = [item for item in instantiate(cfg.dataloader.test.dataset) if item.get("annotations")]
    if not dicts:
        raise InputError("the run's test set has no image with an annotation: name --images.")
    return [dicts[k] for k in spread(len(dicts), count)]


def mapped_by(mapper: Any, item: dict[str, Any]) -> dict[str, Any]:
    """Return what the model takes of an image."""
    try:
        return mapper(item)
    except (InputError, OSError):
        raise
    except Exception as error:  # whatever a transform raises on a size that it cannot make
        raise InputError(
            f"{item['file_name']}, {item['width']}x{item['height']}, cannot be brought to the size "
            f"that the model takes ({error})."
        ) from error


def truth_of(item: dict[str, Any]) -> Any:
    """Return the union of an image's annotations: bool (H, W), at its original size."""
    from inspire_d2.evaluation.polyp import annotation_masks

    return annotation_masks(item).any(axis=0)


def probability_of(output: dict[str, Any]) -> Any:
    """Return the foreground's probability, or the best score x mask, at the original size."""
    if "sem_seg" in output:
        if output["sem_seg"].shape[0] > 2:
            raise InputError(
                f"the model tells {output['sem_seg'].shape[0]} classes of pixels apart: pictures "
                "are of models with one class and the background."
            )
        return 1 - output["sem_seg"].float().softmax(dim=0)[0].cpu().numpy()
    instances = output["instances"].to("cpu")
    if not instances.has("pred_masks"):
        raise InputError("the model predicts no masks.")
    height, width = instances.image_size
    masks = instances.pred_masks.reshape(-1, height, width) * instances.scores[:, None, None]
    return masks.amax(dim=0).numpy() if len(masks) else masks.new_zeros(height, width).numpy()


def resize(values: Any, size: tuple[int, int]) -> Any:
    """Resample a map (H, W) to another size."""
    import cv2

    return cv2.resize(values.astype("float32"), size[::-1], interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
