#!/usr/bin/env python
"""Export a trained detector or segmenter to ONNX or TorchScript, and check it.

    python tools/export.py --run runs/my --output my_model
    python tools/export.py --run runs/my --output my_model --format torchscript --images a.jpg b.jpg

Writes to --output

    model.onnx, model.ts   the network, for one image of any size; the second is TorchScript's
    model.json             how an image is brought to it, and what comes out
    run_onnx.py            runs it without torch: python run_onnx.py polyp.jpg

The exported model predicts --images (default: some of the run's test set), each also turned and cut
to odd sizes, beside the original one on the CPU; it is kept only where they agree: boxes within 0.1
pixels, masks to an IoU of 0.99, scores and probabilities within 0.001.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without an install

from inspire_d2.errors import InputError, exit_on_input_error, first_few

if TYPE_CHECKING:
    import numpy as np

    from inspire_d2.predictor import Predictor

FILES = {"onnx": "model.onnx", "torchscript": "model.ts"}
RUNNER = "run_onnx.py"
NUM_IMAGES = 3


def main(argv: list[str] | None = None) -> None:
    """Export; exits with 2 on wrong input, and where the exported model predicts otherwise.

    Ctrl-C ends it with 130, and leaves what was there.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="output folder of train_net.py, or a config file")
    add("--checkpoint", metavar="FILE", help="weights (default: the run's newest)")
    add("--output", type=Path, required=True, help="a folder")
    add("--format", nargs="+", choices=list(FILES), default=["onnx"], help="default: onnx")
    add("--images", nargs="+", metavar="FILE", help="to check the exported model on")
    add("--force", action="store_true", help="replace an export that is there")
    args = parser.parse_args(argv)
    with exit_on_input_error():
        try:
            export(args)
        except OSError as error:
            raise InputError(f"{error}.") from error  # of a folder that cannot be written to
        except KeyboardInterrupt:
            print("\ninterrupted; no model was kept", file=sys.stderr)
            sys.exit(130)


def export(args: argparse.Namespace) -> None:
    """Do it; raises InputError where something is wrong, or the exported model is."""
    import inspire_d2
    from inspire_d2.export.graph import describe, require, trace, write_onnx, write_torchscript

    names = [FILES[kind] for kind in args.format] + ["model.json"]
    names += [RUNNER] if "onnx" in args.format else []
    every = [*FILES.values(), "model.json", RUNNER]
    there = [name for name in every if (args.output / name).exists()]
    if there and not args.force:
        raise InputError(
            f"{args.output} holds {', '.join(there)} already: take --force to write a new "
            "export in their place, or another --output."
        )
    if "onnx" in args.format:
        require("onnx", "onnxruntime")
    predictor = inspire_d2.load(args.run, args.checkpoint, "cpu")
    about = describe(predictor) | versions(args)
    images = read_images(args.images, predictor)
    adapter = trace(predictor, predictor.prepare(images[0])["image"].float())
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.output, prefix=".unchecked") as folder:
        unchecked = Path(folder)
        (unchecked / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        for kind in args.format:
            print(f"exporting to {kind} ...", flush=True)
            path = unchecked / FILES[kind]
            if kind == "onnx":
                write_onnx(adapter, path, about["outputs"])
                shutil.copy(Path(inspire_d2.__file__).with_name("export") / RUNNER, unchecked)
            else:
                write_torchscript(adapter, path)
            check(kind, predictor, unchecked, images)
        for name in set(there) - set(names):  # another format's, of another model
            (args.output / name).unlink()
        for path in unchecked.iterdir():
            path.replace(args.output / path.name)
    print(f"written to {args.output}: {', '.join(names)}")


def versions(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the model was made of and with."""
    import torch

    import inspire_d2
    from inspire_d2.export.graph import OPSET

    made = {"run": str(args.run), "inspire_d2": inspire_d2.__version__, "torch": torch.__version__}
    return made | ({"opset": OPSET} if "onnx" in args.format else {})


def read_images(paths: list[str] | None, predictor: "Predictor") -> list["np.ndarray"]:
    """Return the images to check on, RGB; raises InputError where there are none."""
    from detectron2.config import instantiate

    from inspire_d2.engine.checks import check_datasets
    from inspire_d2.predictor import read_image
    from inspire_d2.visualization.grid import spread

    if paths is None:
        try:
            check_datasets(predictor.cfg, ("test",))
            items = instantiate(predictor.cfg.dataloader.test.dataset)
        except InputError as error:
            raise InputError(
                f"the run's test set cannot be read ({error}): name --images to check the exported "
                "model on."
            ) from error
        paths = [items[k]["file_name"] for k in spread(len(items), NUM_IMAGES)]
    return [read_image(path) for path in paths]


def check(kind: str, predictor: "Predictor", folder: Path, images: list["np.ndarray"]) -> None:
    """Print how far the exported model is from the original; raises InputError where it is far."""
    from inspire_d2.export.check import compare, variants
    from inspire_d2.export.run_onnx import Model
    from inspire_d2.export.torchscript import Session

    session = None if kind == "onnx" else Session(folder / FILES[kind])
    found = compare(
        predictor, Model(folder, session), (one for image in images for one in variants(image))
    )
    if found.problems:
        raise InputError(
            f"the model exported to {kind} predicts otherwise, and was not kept: "
            f"{first_few(found.problems, 5)}"
        )
    text = f"{kind}, {len(found.sizes)} images of {', '.join(sorted(set(found.sizes)))}: "
    if json.loads((folder / "model.json").read_text())["kind"] == "segmenter":
        print(f"{text}probabilities differ by {found.score:.1g} at most")
        return
    print(
        f"{text}{found.detections} detections, boxes differ by {found.box:.1g} pixels, scores by "
        f"{found.score:.1g} at most, least IoU of masks {found.mask_iou:.4f}"
    )
    if found.detections == 0:
        print(
            "warning: nothing was detected, so that little was compared: name other --images",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
