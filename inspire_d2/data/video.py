"""Reading a video, or a webcam, frame by frame."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import cv2
import numpy as np

from inspire_d2.errors import InputError

__all__ = ["count_frames", "name_for_opencv", "read_video"]

_WEBCAM_DIGITS = 9  # OpenCV fails at numbers of more than 32 bits


@contextlib.contextmanager
def name_for_opencv(path: str) -> Iterator[str]:
    """Yield a name by which OpenCV can open a file: one that is no UTF-8 ends the process.

    Such a file, which need not be there yet, gets a link, to be used while this lasts.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = os.path.join(folder, f"video{os.path.splitext(path)[1]}")
            os.symlink(os.path.abspath(path), link)
            yield link
    else:
        yield path


def count_frames(video: str) -> int:
    """Return the number of frames that a video file says it has; 0 of a webcam's number."""
    with name_for_opencv(video) as name:
        capture = cv2.VideoCapture(name)
        said = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
    return max(0, int(said))


def read_video(video: str | os.PathLike) -> Iterator[tuple[np.ndarray, float]]:
    """Yield a video's frames, uint8 (H, W, 3) in BGR, each with the frames per second.

    Args:
        video: a file, or the number of a webcam, "0", which has no end.

    Raises:
        InputError: there is no such webcam, it has no frames, or, after the last one, far fewer
            than it says.
    """
    video = os.fspath(video)
    if video.isdecimal() and len(video) > _WEBCAM_DIGITS:
        raise InputError(f"there is no webcam {video}: they count from 0.")
    with name_for_opencv(video) as name:
        capture = cv2.VideoCapture(int(video) if video.isdecimal() else name)
    number = 0
    try:
        said, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        while (read := capture.read())[0]:
            yield read[1], fps if 0 < fps <= 1000 else 25.0
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise InputError(f"video {video} cannot be read.")
    if number < 0.95 * said:  # a file's own count may be a little off
        raise InputError(f"video {video} breaks off after {number} of {said:.0f} frames.")
