"""The study: what it would run, and what it makes of runs that are finished."""

import argparse
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from inspire_d2.engine.config import load_config, save_config
from tools.study import VARIANTS, Run

from .studying import IMAGES, ROOT, finish, study


def test_commands_hold_each_centre_out(weights: Path, output: Path) -> None:
    done = study("--weights", weights, "--output", output, "--centres", "C1", "C2",
                 "--seeds", 0, 4, "--variants", "plain", "plain_1.2x", "steps1",
                 "--iterations", 100, "--dry-run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    commands = done.stdout.splitlines()
    assert len(commands) == 2 * 2 * 3
    folders = {re.search(r"train.output_dir=(\S+)", c)[1] for c in commands}
    assert len(folders) == len(commands)
    for command in commands:
        centre = re.search(r"/(C\d)/", command)[1]
        assert f"data/{centre}/train.json" in command
        assert f"data/{centre}/val.json" in command
        is_long = "/plain_1.2x/" in command
        assert f"train.max_iter={120 if is_long else 100}" in command
        assert ("model.backbone.steps=1" in command) == ("/steps1/" in command)
        assert ("_inspire.py" in command) == ("/steps1/" in command)


def test_a_variant_of_ones_own(weights: Path, output: Path) -> None:
    arguments = ["--weights", weights, "--output", output, "--centres", "C1", "--seeds", 0,
                 "--variants", "steps1", "fast", "--define", "fast", "steps1"]  # fmt: skip
    done = study(*arguments, "optimizer.lr=3e-3", "train.max_iter=7", "--dry-run")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert second == first.replace("/steps1/", "/fast/") + " optimizer.lr=3e-3 train.max_iter=7"
    # A finished run of this name that had other overrides is another variant.
    finish(output, "C1", "steps1", 0, [0.5] * IMAGES)
    (output / "runs/semantic/C1/steps1").rename(output / "runs/semantic/C1/fast")
    done = study(*arguments, "optimizer.lr=3e-3")
    assert done.returncode == 2
    assert "a run of optimizer.lr=0.0016, not 0.003" in done.stderr


def test_overrides_reach_every_variant(weights: Path, output: Path) -> None:
    finish(output, "C1", "plain", 0, [0.5] * IMAGES)
    arguments = ["--weights", weights, "--output", output, "--centres", "C1", "--seeds", 1,
                 "--variants", "plain", "steps1", "--dry-run", "--overrides"]  # fmt: skip
    options = "dataloader.train.mapper.augmentations.0.short_edge_length=64 train.log_period=3"
    done = study(*arguments, *options.split())
    assert done.returncode == 0, done.stderr
    assert [line.endswith(options) for line in done.stdout.splitlines()] == [True, True]
    arguments[arguments.index("--seeds") + 1] = 0
    done = study(*arguments, *options.split())
    assert done.returncode == 2
    assert "short_edge_length" in done.stderr and "not 64" in done.stderr
    done = study(*arguments, "train.channels_last=False")
    assert done.returncode == 2
    assert "channels_last=True, not False" in done.stderr
    # A machine may have set this one aside: it is no other study.
    config = output / "runs" / "semantic" / "C1" / "plain" / "seed0" / "config.yaml"
    text = config.read_text()
    assert "channels_last: true" in text
    config.write_text(text.replace("channels_last: true", "channels_last: false"))
    done = study(*arguments, "train.channels_last=True")
    assert done.returncode == 0, done.stderr


def test_several_centres_are_held_out_together(weights: Path, shared_datasets: Path,
                                               tmp_path: Path) -> None:  # fmt: skip
    done = study("--weights", weights, "--root", shared_datasets / "polypgen", "--output", tmp_path,
                 "--centres", "C1+C6", "--seeds", 0, "--variants", "plain",
                 "--dry-run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"output_dir={tmp_path}/runs/semantic/C1+C6/plain/seed0" in done.stdout
    held_out = json.loads((tmp_path / "data" / "C1+C6" / "val.json").read_text())
    names = {image["file_name"].split("/")[-1][:3] for image in held_out["images"]}
    assert names == {"C1_", "C6_"} and len(held_out["images"]) == 256 + 88


def test_finished_runs_are_compared_and_not_run_again(weights: Path, output: Path) -> None:
    generator = np.random.default_rng(0)
    for centre in ("C1", "C2"):
        for seed in (0, 1):
            base = generator.uniform(0.2, 0.8, IMAGES)
            gain = np.array([0.2] * 2 + [0.05] * (IMAGES - 2))
            finish(output, centre, "plain", seed, list(base))
            finish(output, centre, "steps1", seed, list(base + gain))
    done = study("--weights", weights, "--output", output, "--centres", "C1", "C2",
                 "--seeds", 0, 1, "--variants", "plain", "steps1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (output / "table.md").read_text().splitlines()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    row = [cell.strip() for cell in lines[3].strip("|").split("|")]
    cells = dict(zip(head[:11], row, strict=False))
    assert cells["variant"] == "steps1"
    assert cells["runs"] == "4"
    assert cells["x plain"] == "1.50"
    # (2 x 20 + 4 x 5) / 6 points, and 20 on small polyps, in every run
    assert cells["Dice - plain"] == "+10.0"
    assert row[head.index("small polyps") + 1 : head.index("small polyps") + 3] == [
        "+20.0",
        "+20.0 to +20.0",
    ]
    low, high = map(float, cells["95 % interval"].split(" to "))
    assert 5 <= low < 10 < high <= 15
    assert (output / "gains.png").stat().st_size > 5000
    results = sorted((output / "results").glob("*.json"))
    assert len(results) == 8
    done = study("--weights", weights, "--output", output, "--centres", "C1", "C2",
                 "--seeds", 0, 1, "--variants", "plain", "steps1",
                 "--baseline", "steps1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (output / "table.md").read_text().splitlines()
    head, plain, steps1 = ([c.strip() for c in lines[i].strip("|").split("|")] for i in (0, 2, 3))
    column = head.index("Dice - steps1")
    assert (plain[column], steps1[column]) == ("-10.0", "-")
    assert json.loads(results[0].read_text())["small"] == [True] * 2 + [False] * (IMAGES - 2)


@pytest.mark.parametrize(("task", "length"), [("semantic", 250), ("detection", 360)])
def test_runs_of_another_length_are_not_mixed(
    task: str, length: int, weights: Path, output: Path
) -> None:
    finish(output, "C1", "plain", 0, [0.5] * IMAGES, task)
    done = study("--weights", weights, "--output", output, "--centres", "C1", "--seeds", 0,
                 "--task", task, "--variants", "plain", "--iterations", 20)  # fmt: skip
    assert done.returncode == 2
    assert f"max_iter={length}, not 20" in done.stderr


def test_runs_of_an_earlier_config_are_not_mixed(weights: Path, output: Path) -> None:
    finish(output, "C1", "plain", 0, [0.5] * IMAGES)
    arguments = ["--weights", weights, "--output", output, "--centres", "C1", "--seeds", 0,
                 "--variants", "plain", "--dry-run"]  # fmt: skip
    assert study(*arguments).returncode == 0
    file = output / "runs/semantic/C1/plain/seed0/config.yaml"
    cfg = load_config(str(file), ["model.sem_seg_head.loss.dice_weight=0.25"])
    save_config(cfg, str(file))
    done = study(*arguments)
    assert done.returncode == 2
    assert "a run of model.sem_seg_head.loss.dice_weight=0.25, not 1" in done.stderr


def test_a_path_is_taken_as_it_is(weights: Path, output: Path) -> None:
    odd = output.rename(output.parent / "müller, a(1)=[x] {y} & ~")
    done = study("--weights", weights, "--output", odd, "--centres", "C1", "--seeds", 0,
                 "--variants", "plain", "--dry-run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = odd / "runs/semantic/C1/plain/seed0"
    run = Run("semantic", "plain", VARIANTS["plain"], "C1", 0, folder, odd / "data")
    command = run.command(argparse.Namespace(weights=weights, iterations=9))
    (printed,) = map(shlex.split, done.stdout.splitlines())
    assert f"train.output_dir={folder}" in printed and len(printed) == len(command)
    cfg = load_config(str(ROOT / command[3]), command[4:])
    assert cfg.train.output_dir == str(run.folder)
    for split, name in (("train", "train"), ("test", "val")):
        assert cfg.dataloader[split].dataset.json_file == str(odd / f"data/C1/{name}.json")


def test_a_run_too_short_to_be_timed_has_no_time(weights: Path, output: Path) -> None:
    for variant in ("plain", "steps1"):
        finish(output, "C1", variant, 0, [0.5] * IMAGES)
    (output / "runs/semantic/C1/plain/seed0/metrics.json").write_text('{"iteration": 0}\n')
    done = study("--weights", weights, "--output", output, "--centres", "C1",
                 "--seeds", 0, "--variants", "plain", "steps1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain, steps1 = (line.split(" | ")[3:5] for line in done.stdout.splitlines()[2:4])
    assert plain == ["-", "-"] and steps1 == ["3.00", "-"]


def test_a_folder_that_cannot_be_written_to(weights: Path, output: Path) -> None:
    (output / "runs").touch()
    done = study("--weights", weights, "--output", output, "--centres", "C1", "--seeds", 0,
                 "--variants", "plain")  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Not a directory" in done.stderr


def test_wrong_input_is_one_sentence(weights: Path, output: Path, tmp_path: Path) -> None:
    twice = ["mine", "steps1", "a=1"]
    for arguments, message in (
        (["--weights", tmp_path / "none.pkl"], "does not exist"),
        (["--weights", weights, "--variants", "steps9"], "unknown variant"),
        (["--weights", weights, "--baseline", "steps3"], "not one of --variants"),
        (["--weights", weights, "--variants", "steps1", "--baseline", "plain"], "not one of"),
        (["--weights", weights, "--jobs", 0], "1 or more"),
        (["--weights", weights, "--iterations", 0], "1 or more"),
        (["--weights", weights, "--define", "plain", "steps1", "a=1"], "take a new name"),
        (["--weights", weights, "--define", "a/b", "steps1", "a=1"], "take a new name"),
        (["--weights", weights, "--define", "mine", "steps9", "a=1"], "takes one of plain"),
        (["--weights", weights, "--define", "mine", "steps1"], "KEY=VALUE"),
        (["--weights", weights, "--define", *twice, "--define", *twice], "take a new name"),
        (["--weights", weights, "--define", "mine", "steps1", "train.max_iter=0", "--variants",
          "plain", "mine"], "train.max_iter=0 must be a whole number from 1 up"),
        (["--weights", weights, "--seeds", 0, 1, 0], "--seeds names one twice"),
        (["--weights", weights, "--centres", "C1", "C1"], "--centres names one twice"),
        (["--weights", weights, "--centres", "C1+C2", "C2+C1"], "--centres names one twice"),
        (["--weights", weights, "--variants", "plain", "plain"], "--variants names one twice"),
        (["--weights", weights, "--root", tmp_path], "give that --root"),
        (["--weights", weights, "--overrides", "train.eval_period=50"], "the last iteration alone"),
        (["--weights", weights, "--overrides", "train.seed"], "must be KEY=VALUE"),
        (["--weights", weights, "--overrides", "optimizer.lrr=1"], "did you mean lr?"),
        (["--weights", weights, "--overrides", "train.output_dir=x"], "in that of --output"),
        (["--weights", weights, "--define", "mine", "steps1", "train.output_dir=x"], "--output"),
        (["--weights", weights, "--seeds", -1], "0 or more"),
        (["--weights", weights, "--seeds", 2**32], "below 2^32"),
    ):  # fmt: skip
        done = study("--output", output, *arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
