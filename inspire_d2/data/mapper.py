"""Detectron2's mapper, with a sentence for an image that cannot be used."""

from typing import Any

from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import read_image

from inspire_d2.data.images import cannot_be_read, check_image_header
from inspire_d2.errors import InputError

__all__ = ["CheckedMapper"]


class CheckedMapper(DatasetMapper):
    """DatasetMapper that names the image which it cannot read, or would read wrongly.

    The same arguments, and the same output.
    """

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one image of the data set to what a model takes.

        Raises:
            InputError: its file is missing, broken, of more than 8 bits per pixel or of another
                size than the annotations are for.
        """
        size = (dataset_dict["width"], dataset_dict["height"]) if "width" in dataset_dict else None
        check_image_header(dataset_dict["file_name"], size)
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError) as error:
            # Pillow does not say of which file: the image, or its map of stuff.
            for key in ("file_name", "sem_seg_file_name"):
                if key in dataset_dict:
                    _read_again(dataset_dict[key], error)
            raise


def _read_again(path: str, cause: Exception) -> None:
    try:
        read_image(path)
    except (OSError, SyntaxError) as error:
        raise InputError(cannot_be_read(path, error)) from cause
