"""From images and videos to overlays, masks, json and csv, whatever some of the files are."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools.coco import COCO

from inspire_d2.data.images import write_image
from inspire_d2.data.video import read_video
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError
from tools.predict import main

from .predicting import (
    Reddest,
    code_of,
    disc,
    files_of,
    predict,
    rows_of,
    write_images,
    write_video,
)

Capture = pytest.CaptureFixture
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "polyp"


class Corner(torch.nn.Module):
    """A detector without masks, which finds one thing for sure and one not."""

    def forward(self, items: list[dict]) -> list[dict]:
        outputs = []
        for item in items:
            instances = Instances((item["height"], item["width"]))
            instances.pred_boxes = Boxes(torch.tensor([[2.0, 4, 12, 9], [0, 0, 30, 30]]))
            instances.scores = torch.tensor([0.8, 0.3])
            instances.pred_classes = torch.tensor([0, 0])
            outputs.append({"instances": instances})
        return outputs


def test_images_become_masks_overlays_and_figures(tmp_path: Path, model: Reddest) -> None:
    write_images(tmp_path / "in", "a.png", "b.png")
    cv2.imwrite(str(tmp_path / "in" / "dark.png"), disc(0, value=20))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    output, rows = predict(tmp_path)
    assert files_of(output) == [
        "images.json", "masks/a.png", "masks/b.png", "masks/dark.png", "overlays/a.jpg",
        "overlays/b.jpg", "overlays/dark.jpg", "predictions.csv", "predictions.json"]  # fmt: skip
    mask = cv2.imread(str(output / "masks" / "b.png"), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
    assert np.mean((mask > 0) == (disc(35)[:, :, 2] > 128)) > 0.99
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.png", "dark.png"]
    assert [row["polyps"] for row in rows] == ["1", "1", "0"]
    assert int(rows[1]["pixels"]) == (mask > 0).sum()
    assert float(rows[1]["share"]) == pytest.approx((mask > 0).mean(), abs=1e-6)
    assert float(rows[0]["score"]) > 0.99 and float(rows[2]["score"]) < 0.01
    assert float(rows[0]["seconds"]) > 0 and rows[0]["frame"] == ""
    overlay = cv2.imread(str(output / "overlays" / "b.jpg")).astype(int)
    assert overlay.shape == (64, 96, 3)
    assert overlay[34:40, 32:40, 0].mean() > 60  # blue over the image's red
    assert np.abs(overlay[:, 70:] - 20).max() < 12


def test_the_json_is_coco_results_of_the_listed_images(tmp_path: Path, model: Reddest) -> None:
    write_images(tmp_path / "in", "a.png", "b.png")
    output, _ = predict(tmp_path, "--what", "json", "csv", "masks")
    truth = COCO(str(output / "images.json"))
    results = truth.loadRes(str(output / "predictions.json"))
    for image in truth.loadImgs(truth.getImgIds()):
        (one,) = results.loadAnns(results.getAnnIds(imgIds=image["id"]))
        assert one["category_id"] == 1 and one["score"] > 0.99
        name = Path(image["file_name"]).name
        mask = cv2.imread(str(output / "masks" / name), cv2.IMREAD_UNCHANGED) > 0
        np.testing.assert_array_equal(mask_util.decode(one["segmentation"]) > 0, mask)
        assert one["bbox"] == mask_util.toBbox(one["segmentation"]).tolist()
        assert (image["height"], image["width"]) == mask.shape
    write_images(tmp_path / "dark", "dark.png", value=20)
    predict(tmp_path, "--force", "--input", str(tmp_path / "dark"))
    assert json.loads((output / "predictions.json").read_text()) == []
    assert len(json.loads((output / "images.json").read_text())["images"]) == 1


def test_the_threshold_and_boxes(tmp_path: Path, model: Reddest, monkeypatch) -> None:
    monkeypatch.setattr(
        "inspire_d2.predictor.load_trained",
        lambda *_, **__: (load_config(str(CONFIGS / "demo_mask_rcnn_inspire.py")), Corner()),
    )
    write_images(tmp_path / "in", "a.png")
    output, rows = predict(tmp_path)
    assert (rows[0]["polyps"], rows[0]["pixels"], rows[0]["score"]) == ("1", "50", "0.8000")
    results = json.loads((output / "predictions.json").read_text())
    assert [(one["bbox"], "segmentation" in one) for one in results] == [
        ([2, 4, 10, 5], False), ([0, 0, 30, 30], False)]  # fmt: skip
    for threshold, found, pixels in (("0.2", "2", "900"), ("0.9", "0", "0")):
        _, rows = predict(tmp_path, "--force", "--threshold", threshold)
        assert (rows[0]["polyps"], rows[0]["pixels"], rows[0]["score"]) == (found, pixels, "0.8000")


def test_videos_frame_by_frame(tmp_path: Path, model: Reddest) -> None:
    write_video(tmp_path / "in" / "exam.avi", 11)
    # OpenCV writes no odd sizes, but reads them
    odd = [Image.fromarray(disc(x, size=(49, 71))[:, :, ::-1]) for x in (20, 30, 40)]
    odd[0].save(
        tmp_path / "in" / "odd.mp4", "gif", save_all=True, append_images=odd[1:], duration=100
    )
    output, rows = predict(tmp_path, "--batch-size", "4")
    assert model.batches == [4, 4, 3, 1, 2]  # those of two sizes apart
    exam = [row for row in rows if row["file"].endswith("exam.avi")]
    assert [row["frame"] for row in exam] == [str(number) for number in range(11)]
    assert all(row["polyps"] == "1" for row in rows)
    for name, count, size in (("exam", 11, (64, 96)), ("odd", 3, (50, 72))):
        drawn = list(read_video(output / "overlays" / f"{name}.mp4"))
        assert [(frame.shape[:2], fps) for frame, fps in drawn] == [(size, 10)] * count
    masks = sorted((output / "masks" / "exam").iterdir())
    assert [path.name for path in masks] == [f"{number:06d}.png" for number in range(11)]
    columns = [np.argwhere(cv2.imread(str(path))[:, :, 0])[:, 1].mean() for path in masks]
    np.testing.assert_allclose(np.diff(columns), 4, atol=0.5)  # the disc moves
    listed = json.loads((output / "images.json").read_text())["images"]
    assert [image["frame"] for image in listed[:12]] == [*range(11), 0]


def test_names_that_clash_stay_apart(tmp_path: Path, model: Reddest) -> None:
    write_images(tmp_path / "in", "a.jpg", "a.png", "A.bmp", "b.png")
    write_images(tmp_path / "more" / "in", "a.png", "c.png")
    again, both = tmp_path / "more" / ".." / "in" / "b.png", tmp_path / "**" / "*.png"
    predict(tmp_path, "--input", str(tmp_path / "in"), str(again), str(both))
    found = files_of(tmp_path / "out" / "masks")
    assert len({name.lower() for name in found}) == len(found)
    assert found == [f"{name}.png" for name in (
        "b", "c", "in_A_bmp", "in_a_jpg", "in_a_png", "in_a_png_2")]  # fmt: skip


def test_broken_files_are_told_at_the_end(tmp_path: Path, model: Reddest, capsys: Capture) -> None:
    write_images(tmp_path / "in", "a.png", "b.png", "c.png")
    whole = (tmp_path / "in" / "b.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "b2.jpg").write_bytes(b"")
    (tmp_path / "in" / "b3.mp4").write_bytes(b"none")
    cv2.imwrite(str(tmp_path / "in" / "thin.png"), np.zeros((1, 9000, 3), np.uint8))
    (tmp_path / "in" / "._a.png").write_bytes(b"what macOS puts beside a.png on other disks")
    assert code_of(tmp_path) == 2
    told = capsys.readouterr().err
    assert "4 of the files could not be used" in told
    assert all(name in told for name in ("b.png", "b2.jpg", "b3.mp4", "thin.png: an image of 9000"))
    rows = rows_of(tmp_path / "out")
    assert [Path(row["file"]).name for row in rows] == ["a.png", "c.png"]
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 2


def test_what_is_there_is_not_written_over(tmp_path: Path, model: Reddest, capsys: Capture) -> None:
    write_images(tmp_path / "in", "a.png")
    for name in ("predictions.csv", "images.json", "masks/a.png", "overlays/a.jpg"):
        file = tmp_path / "out" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
        assert code_of(tmp_path) == 2
        assert f"holds 1 of the files already ({name})" in capsys.readouterr().err
        assert file.read_text() == "mine" and files_of(tmp_path / "out") == [name]
        file.unlink()
    file.write_text("mine")
    predict(tmp_path, "--what", "masks", "csv")  # of what is not in the way
    assert file.read_text() == "mine"
    predict(tmp_path, "--force")
    assert cv2.imread(str(file)) is not None
    # nor is the input, even so
    before = (tmp_path / "out" / "masks" / "a.png").read_bytes()
    assert code_of(tmp_path, "--force", "--input", str(tmp_path / "out" / "masks")) == 2
    assert "would replace the input" in capsys.readouterr().err
    assert (tmp_path / "out" / "masks" / "a.png").read_bytes() == before


def test_masks_of_a_longer_video_go(tmp_path: Path, model: Reddest, capsys: Capture) -> None:
    for frames in (5, 2):
        write_video(tmp_path / "in" / "exam.avi", frames)
        output, rows = predict(tmp_path, "--force")
        masks = sorted(path.name for path in (output / "masks" / "exam").iterdir())
        assert masks == [f"{number:06d}.png" for number in range(frames)]
        assert len(rows) == frames
    inputs = [str(tmp_path / "in"), str(output / "masks" / "exam")]
    assert code_of(tmp_path, "--force", "--input", *inputs) == 2
    assert "would replace the input masks/exam" in capsys.readouterr().err
    assert len(list((output / "masks" / "exam").iterdir())) == 2


def test_name_that_is_no_utf_8(tmp_path: Path, model: Reddest) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "exam.avi", 3)
    (tmp_path / "exam.avi").rename(os.fsdecode(bytes(tmp_path / "in") + b"/exam_\xe9.avi"))
    main(["--run", "any", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    (written,) = (tmp_path / "out" / "overlays").iterdir()
    assert os.fsencode(written.name) == b"exam_\xe9.mp4"
    frames = [pixels for pixels, _ in read_video(written)]
    assert len(frames) == 3


def test_more_regions_than_memory_holds(
    tmp_path: Path, model: Reddest, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "in").mkdir()
    both = np.maximum(disc(20), disc(70))
    for name, image in (("one", disc(20)), ("two", both)):
        assert cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), image)
    monkeypatch.setattr("inspire_d2.findings.MAX_REGION_BYTES", both[:, :, 0].size)
    assert code_of(tmp_path) == 2
    assert "two.png: At a least score of 0.50 there are 2 regions" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["one.png"]


def test_a_side_longer_than_a_jpeg_holds(
    tmp_path: Path, model: Reddest, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_images(tmp_path / "in", "a.png", "c.png")
    long = cv2.resize(disc(20), (65_501, 160))
    assert cv2.imwrite(str(tmp_path / "in" / "b.png"), long)
    assert code_of(tmp_path) == 2
    assert "b.png: an overlay, a JPEG, cannot have a side of 65501" in capsys.readouterr().err
    assert files_of(tmp_path / "out" / "overlays") == ["a.jpg", "c.jpg"]
    with pytest.raises(InputError, match="b.jpg cannot be written: a .jpg cannot hold 65501x160"):
        write_image(tmp_path / "b.jpg", long)
    assert not (tmp_path / "b.jpg").exists()


def test_large_images_come_fewer_at_a_time(tmp_path: Path, model: Reddest, monkeypatch) -> None:
    monkeypatch.setitem(main.__globals__, "BATCH_PIXELS", 2 * 64 * 96)
    write_images(tmp_path / "in", "a.png", "b.png", "c.png", "d.png", "e.png")
    predict(tmp_path, "--what", "csv")
    assert model.batches == [2, 2, 1]


def test_wrong_input_is_one_sentence(tmp_path: Path, model: Reddest, capsys: Capture) -> None:
    write_images(tmp_path / "in", "a.png")
    for words, message in (
        (["--input", "nothing.jpg"], "--input nothing.jpg: there are no images or videos"),
        (["--threshold", "2"], "--threshold must be in 0..1"),
        (["--batch-size", "0"], "--batch-size 1 or more"),
        (["--output", str(tmp_path / "in" / "a.png" / "out")], "Not a directory"),
    ):
        assert code_of(tmp_path, *words) == 2
        assert message in capsys.readouterr().err


def test_a_run_of_train_net_is_used(tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    run.mkdir()
    cfg = load_config(str(CONFIGS / "demo_mask_rcnn_inspire.py"))
    save_config(cfg, str(run / "config.yaml"))
    torch.save({"model": instantiate(cfg.model).state_dict()}, run / "weights.pth")
    write_images(tmp_path / "in", "a.png")
    assert code_of(tmp_path, "--run", str(run)) == 2
    assert "no checkpoint of its own" in capsys.readouterr().err
    predict(tmp_path, "--run", str(run), "--checkpoint", str(run / "weights.pth"))
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert results and all(one["segmentation"]["size"] == [64, 96] for one in results)
