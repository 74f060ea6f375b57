"""What tools/predict.py leaves when a signal stops it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from pycocotools.coco import COCO

from inspire_d2.data.video import read_video

from .predicting import Reddest, code_of, rows_of, write_video

Capture = pytest.CaptureFixture


@pytest.fixture
def heed() -> Iterator[None]:
    """Heed signals that this process may ignore: of a shell's job in the background, of nohup."""
    before = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
            (signal.SIGHUP, signal.SIG_DFL),
        )
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_keep_it_too(
    heed: None, tmp_path: Path, model: Reddest, number: int, code: int
) -> None:
    write_video(tmp_path / "in" / "exam.avi", 12)
    model.on_batch = lambda: len(model.batches) == 2 and os.kill(os.getpid(), number)
    assert code_of(tmp_path, "--batch-size", "3") == code
    assert signal.getsignal(number) == signal.SIG_DFL
    assert len(COCO(str(tmp_path / "out" / "images.json")).imgs) == 6
    assert len(list(read_video(tmp_path / "out" / "overlays" / "exam.mp4"))) == 6


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_keeps_what_is_finished(
    heed: None, tmp_path: Path, model: Reddest, presses: int, capsys: Capture
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    write_video(tmp_path / "in" / "exam.avi", 12)

    def press() -> None:
        for _ in range(presses if len(model.batches) == 2 else 0):
            os.kill(os.getpid(), signal.SIGINT)

    model.on_batch = press
    assert code_of(tmp_path, "--batch-size", "3") == 130
    assert "what is finished stays" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    finished = 6 if presses == 1 else 3  # the batch that was begun, or what was there
    assert len(model.batches) == 2
    truth = COCO(str(tmp_path / "out" / "images.json"))
    results = truth.loadRes(str(tmp_path / "out" / "predictions.json"))
    assert len(truth.getImgIds()) == len(results.getAnnIds()) == finished
    assert len(rows_of(tmp_path / "out")) == finished
    video = cv2.VideoCapture(str(tmp_path / "out" / "overlays" / "exam.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == finished
