"""tools/report.py: what it says and with which code it ends, on whatever a folder holds."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import sem_seg_postprocess

from inspire_d2.data.polyp import polyp_dataset
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.evaluation.polyp_masks import annotation_masks
from inspire_d2.evaluation.volume_report import RECORD_KEYS
from inspire_d2.report import subject as subjects
from inspire_d2.report.subject import gather
from tools.report import main

from ..report.runs import write_run, write_set

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "run", write_set(folder / "data", 6), f"tool_{folder.name}")


def refused(capsys: Capture, *words: object) -> str:
    """Return what the tool says when it ends with code 2."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_page_is_written_once(run: Path, tmp_path: Path, capsys: Capture) -> None:
    main([str(run)])
    output = run / "report.html"
    assert f"written: {output} (" in capsys.readouterr().out
    before = output.read_bytes()
    assert "is there already" in refused(capsys, run)
    assert output.read_bytes() == before
    output.write_text("mine")
    main([str(run), "--force"])
    assert output.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in run.iterdir() if path.name.startswith(".")) == []
    main([str(run), "--output", str(tmp_path / "new" / "page.html")])
    assert (tmp_path / "new" / "page.html").is_file()


def test_wrong_input(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "is not a folder" in refused(capsys, tmp_path / "none")
    assert "holds no config.yaml" in refused(capsys, tmp_path)
    assert "is a folder" in refused(capsys, run, "--output", tmp_path)
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(capsys, run, "--output", tmp_path / "file" / "a.html")
    words = (run, "--output", tmp_path / "b.html")
    assert "does not exist" in refused(capsys, *words, "--checkpoint", tmp_path / "none.pth")
    assert "leave --no-predict out" in refused(capsys, *words, "--no-predict", "--checkpoint", "x")
    assert not (tmp_path / "b.html").exists()


def test_runs_with_nothing_in_common(run: Path, tmp_path: Path, capsys: Capture) -> None:
    cfg = load_config(str(ROOT / "configs" / "coco" / "semantic_r50_fpn_1x.py"))
    save_config(cfg, str(tmp_path / "config.yaml"))
    assert "nothing to compare" in refused(capsys, run, tmp_path, "--output", tmp_path / "a.html")


@pytest.mark.parametrize("name", ["r\x1b[1mx", "r\udce9"])  # no UTF-8: the byte 0xe9
def test_names_that_a_page_cannot_hold(run: Path, tmp_path: Path, name: str) -> None:
    other = shutil.copytree(run, tmp_path / name)
    main([str(other), "--no-predict", "--force"])
    main([str(run), str(other), "--output", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") > 2 and "\ufffd" in page


def test_ctrl_c_leaves_nothing(
    run: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path, *_: object) -> None:
        assert path.parent == tmp_path and path.suffix == ".part"
        raise KeyboardInterrupt

    output = tmp_path / "page.html"
    output.write_text("mine")
    monkeypatch.setattr("inspire_d2.files.os.replace", interrupt)
    with pytest.raises(SystemExit) as ended:
        main([str(run), "--output", str(output), "--force"])
    assert ended.value.code == 130
    assert "interrupted; no page was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [output] and output.read_text() == "mine"


# --- Predictions that were not saved --------------------------------------------------------------


class Reddest(torch.nn.Module):
    """A segmenter: the redder, the likelier."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1_500_000))

    def forward(self, items: list[dict]) -> list[dict]:
        outputs = []
        for item in items:
            red = item["image"][0].float()
            logits = torch.stack([160 - red, red - 160]) / 20
            size = item["height"], item["width"]
            outputs.append({"sem_seg": sem_seg_postprocess(logits, red.shape, *size)})
        return outputs


@pytest.fixture
def segmenter(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a U-Net that was trained and not scored, on the set of ``run``."""
    folder = tmp_path / "segmenter"
    folder.mkdir()
    cfg = load_config(str(ROOT / "configs" / "polyp" / "unet_r18_inspire.py"))
    cfg.dataloader.test.dataset = load_config(str(run / "config.yaml")).dataloader.test.dataset
    cfg.dataloader.test.num_workers = 0
    cfg.train.output_dir = str(folder)
    save_config(cfg, str(folder / "config.yaml"))
    (folder / "model_final.pth").touch()
    (folder / "last_checkpoint").write_text("model_final.pth")
    monkeypatch.setattr("inspire_d2.report.run.newest_checkpoint", lambda _: "model_final.pth")
    loaded = "inspire_d2.report.inference.load_trained"
    monkeypatch.setattr(loaded, lambda *_, **__: (cfg, Reddest()))
    return folder


def test_maps_are_predicted_where_they_were_not_saved(segmenter: Path, capsys: Capture) -> None:
    subject = gather(segmenter)
    assert f"predicting {segmenter}" in capsys.readouterr().err
    assert subject.parameters == pytest.approx(1.5)
    # Scores are the evaluator's own, pixels are counted as they are.
    node = load_config(str(segmenter / "config.yaml")).dataloader.test.dataset
    dicts = polyp_dataset(node.name, node.json_file)
    assert len(subject.cases) == len(dicts) == 6
    assert {"polyp", "polyp_protocol"} <= subject.evaluation.keys()
    positives = [case.dice for case in subject.cases if case.num_true]
    assert np.mean(positives) == pytest.approx(subject.evaluation["polyp"]["Dice"])
    pixels = subject.calibration
    assert pixels.of == "pixels"
    assert pixels.total == sum(one["height"] * one["width"] for one in dicts)
    true = sum(annotation_masks(one).any(axis=0).sum() for one in dicts)
    assert pixels.rights.sum() == true
    assert sorted(path.name for path in segmenter.iterdir()) == [
        "config.yaml",
        "last_checkpoint",
        "model_final.pth",
    ]


def test_figures_of_nothing_are_not_compared(
    segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evaluator:
        def process(self, *_: object) -> None:
            pass

        def evaluate(self) -> dict:
            return {"polyp": {"Dice": 0.5, "specificity": float("nan")}}

    monkeypatch.setattr("inspire_d2.report.inference._evaluator", lambda *_: Evaluator())
    main([str(segmenter), str(segmenter), "--output", str(segmenter / "page.html")])
    page = (segmenter / "page.html").read_text()
    assert ">polyp Dice<" in page and "+nan" not in page and ">polyp specificity<" not in page


def test_page_without_predicting(segmenter: Path, run: Path, capsys: Capture) -> None:
    rows = json.loads((run / "polyp_per_image.json").read_text())
    (segmenter / "polyp_per_image.json").write_text(json.dumps(rows))
    main([str(segmenter), "--no-predict"])
    said = capsys.readouterr().err
    assert "without --no-predict" in said and "train_net.py --eval-only" in said
    page = (segmenter / "report.html").read_text()
    assert page.count('<tr id="image-') == len(rows) and "<img" not in page


def test_model_that_cannot_be_run_is_a_note(
    segmenter: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise subjects.InputError("checkpoint model_final.pth is broken.")

    monkeypatch.setattr("inspire_d2.report.inference.load_trained", fail)
    main([str(segmenter)])
    assert "cannot be made now: checkpoint model_final.pth is broken." in capsys.readouterr().err


def test_volumes(tmp_path: Path, capsys: Capture) -> None:
    cfg = load_config(str(ROOT / "configs" / "mri" / "lgg_unet_inspire.py"))
    rows = [
        dict.fromkeys(RECORD_KEYS, 1)
        | {
            **{"case": f"<b>case{k}", "patient": f"p{k}", "region": region, "dice": dice},
            **{"hd95": 2.0, "assd": 1.0, "lesion_precision": 1.0, "lesion_recall": 0.5},
            **{"lesion_f1": 0.67, "true_voxels": 100 * k, "predicted_voxels": 90},
        }
        for k, region, dice in ((1, "WT", 0.8), (1, "ET", 0.4), (2, "WT", 0.6), (2, "ET", 0.2))
    ]
    runs = [tmp_path / name for name in ("a", "b")]
    for run, shift in zip(runs, (0.1, 0.0), strict=True):
        run.mkdir()
        save_config(cfg, str(run / "config.yaml"))
        mine = [row | {"dice": row["dice"] + shift} for row in rows]
        (run / "volume_per_case.json").write_text(json.dumps(mine))
    main([str(runs[0])])
    page = (runs[0] / "report.html").read_text()
    assert page.count('<tr id="volume-') == 4 and "<b>case1" not in page
    assert re.search(r"<dt>Dice</dt><dd><b>0\.600</b>", page)  # of 0.8 and 0.4, their mean
    main([str(runs[0]), str(runs[1])])
    page = (runs[0] / "report_vs_b.html").read_text()
    assert page.count("+0.100") == 2 + 2 * 2 + 4 + 1  # regions, intervals, cases, their mean
