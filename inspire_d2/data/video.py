"""Reading a video, or a webcam, frame by frame."""

import os
from collections.abc import Iterator

import cv2
import numpy as np

from inspire_d2.errors import InputError

__all__ = ["read_video"]


def read_video(video: str | os.PathLike) -> Iterator[tuple[np.ndarray, float]]:
    """Yield a video's frames, uint8 (H, W, 3) in BGR, each with the frames per second.

    Args:
        video: a file, or the number of a webcam, "0", which has no end.

    Raises:
        InputError: it has no frames, or, after the last one, far fewer than it says.
    """
    video = os.fspath(video)
    capture = cv2.VideoCapture(int(video) if video.isdecimal() else video)
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
