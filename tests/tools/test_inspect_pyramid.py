"""The tool that shows what the pyramid's parts do, from a run's folder."""

import runpy
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.engine.config import load_config, save_config

ROOT = Path(__file__).resolve().parents[2]
MAIN = runpy.run_path(str(ROOT / "tools" / "inspect_pyramid.py"))["main"]


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
    for arguments, message in (
        (["--run", tmp_path / "nothing"], "does not exist"),
        (["--run", fpn], "trained no InspireFPN"),
        (["--run", inspire, "--count", "0"], "1 or more"),
        (["--run", inspire, "--images", tmp_path / "no.jpg"], "cannot be read"),
    ):
        with pytest.raises(SystemExit) as error:
            MAIN([*map(str, arguments), *(["--output", str(tmp_path / "out")])])
        assert error.value.code == 2
        assert message in capsys.readouterr().err
