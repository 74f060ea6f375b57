"""The tool that shows what the pyramid's parts do, from a run's folder."""

import runpy
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "polyp" / "semantic_fpn_r18_inspire.py"
TOOL = runpy.run_path(str(ROOT / "tools" / "inspect_pyramid.py"))
MAIN = TOOL["main"]


def run_of(config: str, folder: Path) -> Path:
    """A run's folder with a config and a checkpoint of random weights."""
    folder.mkdir()
    cfg = load_config(str(ROOT / "configs" / "polyp" / config), [f"train.output_dir={folder}"])
    save_config(cfg, str(folder / "config.yaml"))
    torch.save({"model": instantiate(cfg.model).state_dict()}, folder / "model_final.pth")
    (folder / "last_checkpoint").write_text("model_final.pth")
    return folder


def test_images_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of("semantic_fpn_r18_inspire.py", tmp_path / "run")
    write_synthetic_set(tmp_path / "data", 2, seed=1, size=96)
    images = sorted((tmp_path / "data" / "images").iterdir())
    MAIN(["--run", str(run), "--output", str(tmp_path / "out"), "--images", *map(str, images)])
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert "ssba3 lambda" in capsys.readouterr().out


def test_no_picture_takes_anothers_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of("semantic_fpn_r18_inspire.py", tmp_path / "run")
    for folder, size in (("a", (96, 64)), ("b", (64, 96))):
        (tmp_path / folder).mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6  # a phone held upright: turned by a quarter
        Image.new("RGB", size).save(tmp_path / folder / "x.png", exif=exif)
    images = [str(tmp_path / folder / "x.png") for folder in "ab"]
    MAIN(["--run", str(run), "--output", str(tmp_path / "out"), "--images", *images])
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    with pytest.raises(SystemExit) as error:
        MAIN(["--run", str(run), "--output", str(tmp_path / "a"), "--images", images[0]])
    assert error.value.code == 2
    assert "would replace the input" in capsys.readouterr().err
    assert Image.open(images[0]).size == (96, 64)


def test_images_of_the_test_set_are_spread_evenly(tmp_path: Path, monkeypatch) -> None:
    images = [{"file_name": str(k), "annotations": [{}] * (k % 10 != 0)} for k in range(24)]
    monkeypatch.setattr("inspire_d2.engine.checks.check_datasets", lambda *_: None)
    images.append({"file_name": "stuff"})  # as Detectron2's sets of stuff alone
    monkeypatch.setattr("detectron2.config.instantiate", lambda _: images)
    chosen = TOOL["test_images"](load_config(str(CONFIG)), 12)
    names = [int(one["file_name"]) for one in chosen]
    assert len(names) == 12 and names[0] == 1 and names[-1] == 23
    assert max(b - a for a, b in zip(names, names[1:], strict=False)) <= 3


def test_a_test_set_that_is_not_there_is_told() -> None:
    cfg = load_config(str(CONFIG), ["dataloader.test.dataset={name: mine, json_file: none.json}"])
    with pytest.raises(InputError, match="none.json"):
        TOOL["test_images"](cfg, 12)


def test_a_run_on_volumes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("monai")
    run = run_of("../mri/lgg_semantic_fpn_inspire.py", tmp_path / "run")
    with pytest.raises(SystemExit) as error:
        MAIN(["--run", str(run)])
    assert error.value.code == 2
    assert "was not trained on images" in capsys.readouterr().err


def test_wrong_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fpn = run_of("semantic_fpn_r18_plain.py", tmp_path / "fpn")
    inspire = run_of("semantic_fpn_r18_inspire.py", tmp_path / "inspire")
    (tmp_path / "no.jpg").write_bytes(b"none")
    (tmp_path / "file").touch()
    for name, size in (("thin", (3000, 1)), ("x", (96, 64))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    for arguments, message in (
        (["--run", tmp_path / "nothing"], "does not exist"),
        (["--run", fpn], "trained no InspireFPN"),
        (["--run", inspire, "--count", "0"], "1 or more"),
        (["--run", inspire, "--images", tmp_path / "no.jpg"], "cannot be read"),
        (["--run", inspire, "--images", tmp_path / "thin.png"], "3000x1, cannot be brought to"),
        (
            ["--run", inspire, "--images", tmp_path / "x.png", "--output", tmp_path / "file"],
            "exists",
        ),
    ):
        with pytest.raises(SystemExit) as error:
            MAIN(["--output", str(tmp_path / "out"), *map(str, arguments)])
        assert error.value.code == 2
        assert message in capsys.readouterr().err
