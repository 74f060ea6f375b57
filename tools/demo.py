#!/usr/bin/env python
"""The whole job on synthetic colonoscopy, in minutes and without any data of yours.

Makes a set, converts it as you would convert Kvasir-SEG, trains Mask R-CNN + INSPIRE from random
weights, scores what was held out, and draws curves and predictions. Each command is printed.
"""

import argparse
import json
import math
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # works without an install

CONFIG = "configs/polyp/demo_mask_rcnn_inspire.py"
NUM_IMAGES, TRAIN_SHARE = 400, 0.9
# A folder that holds this file was made by the demo, which may make it anew.
MARKER = "made_by_demo"


def main(argv: list[str] | None = None) -> None:
    """Run the demo; exits with the code of the first command that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "runs" / "demo")
    parser.add_argument("--seed", type=int, default=0, help="of images, split and training")
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides of the config")
    args = parser.parse_args(argv)
    args.output = args.output.resolve()  # the scripts run in the repository's folder

    from inspire_d2.errors import exit_on_input_error

    start = time.monotonic()
    with exit_on_input_error():
        check_options(args.seed, args.opts)
        prepare_folder(args.output)
    data, run = args.output / "data", args.output / "run"
    seed = str(args.seed)
    call("datasets/make_synthetic.py", "--output", data, "--num-images", NUM_IMAGES,
         "--size", 192, "--seed", seed)  # fmt: skip
    call("datasets/prepare_polyps.py", "--layout", "kvasir", "--root", data,
         "--ratio", TRAIN_SHARE, "--seed", seed)  # fmt: skip
    datasets = []
    for split, name in (("train", "train"), ("test", "val")):  # apart: a path may hold braces
        dataset = f"dataloader.{split}.dataset"
        json_file = data / "annotations" / f"{name}.json"
        datasets += [f"{dataset}.name=demo_{name}", f"{dataset}.json_file={json_file}"]
    call("train_net.py", "--config-file", CONFIG, f"train.output_dir={run}", f"train.seed={seed}",
         *datasets, *args.opts)  # fmt: skip
    with exit_on_input_error():
        show(data, run, args.output, time.monotonic() - start)


def check_options(seed: int, opts: list[str]) -> None:
    """Raise InputError where the commands would refuse these, before anything is deleted."""
    from inspire_d2.engine.config import load_config
    from inspire_d2.engine.train_options import check_train_options
    from inspire_d2.errors import InputError

    if any(opt.startswith("train.output_dir=") for opt in opts):
        raise InputError("train.output_dir is run/ of the demo's folder: name it by --output.")
    if not 0 <= seed < 2**32:  # as numpy has it
        raise InputError(f"--seed {seed} must be in 0..4294967295.")
    check_train_options(load_config(str(REPOSITORY / CONFIG), [f"train.seed={seed}", *opts]))


def prepare_folder(folder: Path) -> None:
    """Make an empty folder for the demo; one that an earlier demo made is emptied."""
    from inspire_d2.errors import InputError

    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: name a folder with --output.")
        if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
            raise InputError(f"{folder} holds files that no demo made: name another with --output.")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise InputError(f"--output {folder} cannot be made: {error.strerror}.") from error


def call(script: str, *arguments: object) -> None:
    """Print and run one of the repository's scripts, as a user would; exit where it fails.

    What asks the demo to stop is handed on to the script, which may be the training: that ends once
    its checkpoint is written.
    """
    command = ["python", script, *map(str, arguments)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    stops: list[int] = []
    # In the background of a shell Ctrl-C is ignored, under nohup SIGHUP: so it stays.
    before = {
        number: signal.signal(number, lambda received, _: stops.append(received))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    }
    # In the same group, so that a terminal suspends and quits both. Its Ctrl-C reaches the script
    # by itself too: handed on as SIGTERM, it is no second one, after which nothing is saved.
    with subprocess.Popen([sys.executable, *command[1:]], cwd=REPOSITORY) as process:
        handed_on = 0
        while process.poll() is None:
            if handed_on < len(stops):
                handed_on += 1
                process.terminate()
            time.sleep(0.1)
    for number, handler in before.items():
        signal.signal(number, handler)
    if stops:
        sys.exit(128 + stops[0])
    if process.returncode:
        sys.exit(process.returncode)


def show(data: Path, run: Path, output: Path, seconds: float) -> None:
    """Draw curves and predictions, print the scores and where everything lies."""
    from inspire_d2.data import polyp_dataset
    from inspire_d2.visualization import plot_curves, prediction_grid, read_predictions

    plot_curves(run / "metrics.json", output / "curves.png")
    dicts = polyp_dataset("demo_val", str(data / "annotations" / "val.json"))
    predictions = read_predictions(run / "coco_instances_results.json", dicts)
    prediction_grid(dicts, predictions, output / "predictions.png")
    scores = json.loads((run / "evaluation.json").read_text())
    rows = [
        ("box AP50", scores["bbox"]["AP50"], "%"),
        ("mask AP50", scores["segm"]["AP50"], "%"),
        ("Dice, images with polyps", scores["polyp"]["Dice"], ""),
        ("IoU, images with polyps", scores["polyp"]["IoU"], ""),
        ("polyps found", scores["polyp"].get("recall"), ""),
    ]
    print(f"\nOn {len(dicts)} held-out images, after {seconds / 60:.1f} minutes:")
    for name, value, unit in rows:
        shown = "-" if value is None or math.isnan(value) else f"{value:.2f}"
        print(f"  {name:<26}{shown:>8} {unit}")
    print("Look at:")
    for path in ("predictions.png", "curves.png", "run/metrics.json", "run/config.yaml"):
        print(f"  {output / path}")
    print('To train on your own images: README.md, "Your own data".')


if __name__ == "__main__":
    main()
