"""The overfit: which images it takes, what it does to a config, a short run, wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from inspire_d2.engine.config import load_config
from inspire_d2.errors import InputError
from tools import overfit

ROOT = Path(__file__).resolve().parents[2]
COCO = ROOT / "configs/coco"
SMALL = [*COCO.glob("htc_without_semantic_*.py"), *COCO.glob("*mask_rcnn_r50_inspire_[13]x.py")]


def annotation(image: int, crowd: int = 0) -> dict:
    box, outline = [2, 3, 20, 10], [2, 3, 22, 3, 22, 13]
    return {
        "id": 10 * image + crowd,
        "image_id": image,
        "category_id": 7,
        "iscrowd": crowd,
        "bbox": box,
        "area": 100,
        "segmentation": [outline],
    }


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """COCO's annotations: images 1 to 6, of which 2 has no object and 3 a crowd."""
    path = tmp_path / "instances.json"
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64}
            for i in (6, 4, 3, 2, 1, 5)
        ],
        "annotations": [*map(annotation, (1, 3, 4, 5, 6)), annotation(3, crowd=1)],
        "categories": [{"id": 7, "name": "thing"}],
    }
    path.write_text(json.dumps(content))
    name = f"overfit_test_{tmp_path}"
    MetadataCatalog.get(name).set(json_file=str(path), image_root=str(tmp_path))
    monkeypatch.setattr(overfit, "SOURCE", name)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Random weights of the bottom-up: an encoder's file, as far as loading goes."""
    cfg = load_config(str(SMALL[0]))
    overfit.shrink_model(cfg.model)
    bottom_up = instantiate(cfg.model.backbone.bottom_up)
    for module in bottom_up.modules():  # frozen norms let random weights explode
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 0.7
    path = tmp_path / "weights.pth"
    state = {f"backbone.bottom_up.{key}": value for key, value in bottom_up.state_dict().items()}
    torch.save({"model": state}, path)
    return path


def test_takes_the_first_images_with_objects_and_without_crowds(
    source: Path, tmp_path: Path
) -> None:
    for count in (3, 2):  # again in the same process, another number
        name = overfit.register_images(count, tmp_path / "out")
        assert [one["image_id"] for one in DatasetCatalog.get(name)] == [1, 4, 5][:count]
    written = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [one["image_id"] for one in written["annotations"]] == [1, 4]


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_small_models_keep_their_parts(path: Path) -> None:
    cfg = load_config(str(path))
    overfit.shrink_model(cfg.model)
    model = instantiate(cfg.model)
    assert list(model.backbone.output_shape()) == ["p2", "p3", "p4"]
    assert sum(p.numel() for p in model.parameters()) < 8e6
    whole = instantiate_on_meta(path)
    assert type(model.roi_heads) is type(whole.roi_heads)
    parts = {key.split(".")[1] for key in whole.roi_heads.state_dict()}
    assert {key.split(".")[1] for key in model.roi_heads.state_dict()} == parts


def instantiate_on_meta(path: Path) -> nn.Module:
    with torch.device("meta"):
        return instantiate(load_config(str(path)).model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("htc_r50_inspire_1x", "stuff maps"),
        ("panoptic_r50_inspire_1x", "stuff maps"),
        ("retinanet_r50_inspire_1x", "only R-CNNs with masks"),
        ("faster_rcnn_r50_inspire_1x", "only R-CNNs with masks"),
    ],
)
def test_other_models_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overfit.shrink_model(load_config(str(COCO / f"{name}.py")).model)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "0"], "--images 0: must be 1 or more."),
        (["--images", "5"], "to choose from."),
        (["--iterations", "0"], "--iterations 0: must be 1 or more."),
        (["--weights", "nowhere.pkl"], "--weights nowhere.pkl does not exist"),
        (["--config-file", "nowhere.py"], "config file nowhere.py does not exist."),
        (["--images", "1", "--output", "instances.json/out"], "--output instances.json/out: "),
    ],
)
def test_wrong_input(
    words: list[str],
    message: str,
    source: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(source.parent)
    with pytest.raises(SystemExit) as error:
        overfit.main(["--weights", str(weights), "--output", "out", *words])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_data_that_are_not_there(
    source: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source.unlink()
    with pytest.raises(SystemExit) as error:
        overfit.main(["--weights", str(weights), "--output", str(tmp_path / "out")])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "set DETECTRON2_DATASETS" in line and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_too_short_fails(shared_datasets: Path, weights: Path, tmp_path: Path) -> None:
    if not (shared_datasets / "coco/annotations/instances_val2017.json").exists():
        pytest.skip("DETECTRON2_DATASETS holds no coco/ to train on")
    output = tmp_path / "out"
    words = ["--images", 2, "--iterations", 2, "--size", 64, "--weights", weights]
    # In a process of its own: a run sets up loggers and seeds.
    done = subprocess.run(
        [sys.executable, ROOT / "tools/overfit.py", *map(str, words), "--output", output],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert "2 images, 2 iterations" in done.stdout and "mask AP " in done.stdout
    assert "failed: mask AP50 is " in done.stderr
    assert (output / "predictions.png").exists()
    assert json.loads((output / "evaluation.json").read_text()).keys() == {"bbox", "segm"}
    # What has been trained is not trained over.
    again = subprocess.run(
        [sys.executable, ROOT / "tools/overfit.py", *map(str, words), "--output", output],
        capture_output=True,
        text=True,
    )
    assert again.returncode == 2 and "name another --output" in again.stderr
