"""The files that tools/predict.py writes: overlays, masks, json and csv."""

import argparse
import contextlib
import csv
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from inspire_d2.errors import InputError

if TYPE_CHECKING:
    from tools.predict import Picture

__all__ = ["Output"]

JPEG_LONGEST = 65_500  # pixels that libjpeg writes along a side
COLUMNS = ("file", "frame", "polyps", "pixels", "share", "score", "seconds")


class Output(contextlib.ExitStack):
    """The files to write, which are whole when it is closed, whenever that is."""

    def __init__(self, args: argparse.Namespace, categories: list[dict[str, Any]]) -> None:
        super().__init__()
        self.args, self.category_ids = args, [one["id"] for one in categories]
        self.images = 0
        self.stops: list[int] = []
        self.video, self.drawn_of = cv2.VideoWriter(), ""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as SIGHUP is under nohup
                self.callback(signal.signal, number, signal.signal(number, self.interrupt))
        self.callback(self.video.release)
        args.output.mkdir(parents=True, exist_ok=True)
        if "json" in args.what:
            end = f'], "categories": {json.dumps(categories)}, "annotations": []}}\n'
            images, results = (args.output / f"{name}.json" for name in ("images", "predictions"))
            self.list_image = self.enter_context(json_list(images, '{"images": [', end))
            self.list_result = self.enter_context(json_list(results, "[", "]\n"))
        if "csv" in args.what:
            path = args.output / "predictions.csv"  # file names may be no UTF-8
            table = open(path, "w", 1, newline="", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
            self.row = csv.writer(self.enter_context(table)).writerow
            self.row(COLUMNS)

    def interrupt(self, number: int, _: Any) -> None:
        """Leave a first signal to the end of a batch, so that no file ends halfway."""
        if self.stops:
            raise KeyboardInterrupt(number)
        self.stops.append(number)

    def check(self, picture: "Picture") -> None:
        """Raise InputError where an image cannot be written as an overlay."""
        longest = max(picture.pixels.shape[:2])
        if "overlays" in self.args.what and longest > JPEG_LONGEST:
            raise InputError(
                f"an overlay, a JPEG, cannot have a side of {longest} pixels: leave overlays out, "
                "with --what json csv masks"
            )

    def add(self, picture: "Picture", result: Any, seconds: float) -> None:
        """Write the predictions of one image or frame."""
        from detectron2.evaluation.coco_evaluation import instances_to_coco_json

        from inspire_d2.data.images import write_image
        from inspire_d2.findings import as_instances, draw, masks_of

        what, source, threshold = self.args.what, picture.source, self.args.threshold
        instances = as_instances(result, threshold)
        masks = masks_of(instances, threshold)
        union = masks.any(axis=0)
        self.images += 1
        if "json" in what:
            size = {"height": union.shape[0], "width": union.shape[1], "frame": picture.frame}
            self.list_image({"id": self.images, "file_name": source.path} | size)
            for one in instances_to_coco_json(instances, self.images):
                self.list_result(one | {"category_id": self.category_ids[one["category_id"]]})
        if "csv" in what:
            scores = instances.scores.numpy() if result is instances else result
            size = [len(masks), union.sum(), f"{union.mean():.6f}", f"{scores.max(initial=0):.4f}"]
            self.row([source.path, picture.frame, *size, f"{seconds:.4f}"])
        if "masks" in what:
            if picture.frame == 0:  # a longer video of that name has left more
                for old in (self.args.output / "masks" / source.name).glob("[0-9]*.png"):
                    old.unlink()
            name = f"{source.name}/{picture.frame:06d}" if source.is_video else source.name
            write_image(self.args.output / "masks" / f"{name}.png", union.astype(np.uint8) * 255)
        if "overlays" in what:
            drawn = draw(picture.pixels, masks, instances.scores[instances.scores >= threshold])
            path = self.args.output / "overlays" / source.name
            if source.is_video:
                self.write_frame(f"{path}.mp4", drawn, picture.fps)
            else:
                write_image(f"{path}.jpg", drawn)

    def write_frame(self, path: str, drawn: np.ndarray, fps: float) -> None:
        """Go on with the video of that path, or begin it. mp4v would cut an odd row or column."""
        from inspire_d2.data.video import name_for_opencv

        height, width = drawn.shape[:2]
        drawn = cv2.copyMakeBorder(drawn, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if path != self.drawn_of:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            code, size = cv2.VideoWriter.fourcc(*"mp4v"), drawn.shape[1::-1]
            with name_for_opencv(path) as name:
                if not self.video.open(name, code, fps, size):
                    raise InputError(f"{path} cannot be written as a video.")
            self.drawn_of = path
        self.video.write(drawn)


@contextlib.contextmanager
def json_list(path: Path, begin: str, end: str) -> Iterator[Callable[[Any], None]]:
    """Yield a function that writes one more item into a file, which is closed with ``end``."""
    with open(path, "w", 1, encoding="utf-8") as file:
        file.write(begin)
        before = itertools.chain(["\n"], itertools.repeat(",\n"))
        try:
            yield lambda item: file.write(next(before) + json.dumps(item))
        finally:
            file.write(end)
