"""The predictions that a scoring has saved, by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspire_d2.errors import InputError, first_few
from inspire_d2.evaluation.saved import read_results
from inspire_d2.report.truth import Thing, Truth

__all__ = ["RESULTS", "by_image", "read_saved"]

RESULTS = "coco_instances_results.json"


def read_saved(folder: Path, truth: Truth) -> dict[Any, list[Thing]] | None:
    """Read a run's predicted instances, the best of an image first; None where it saved none.

    Raises:
        InputError: the file cannot be read, or is of other images.
    """
    path = folder / RESULTS
    if not path.is_file():
        return None
    try:
        return by_image(read_results(str(path)), truth)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a prediction is not in COCO's format ({error!r}).") from error


def by_image(results: Sequence[dict[str, Any]], truth: Truth) -> dict[Any, list[Thing]]:
    """Group predictions in COCO's format by image, the best score first.

    Raises:
        InputError: some are of images that the truth lacks.
    """
    found: dict[Any, list[Thing]] = {key: [] for key in truth.items}
    foreign = {one["image_id"] for one in results} - found.keys()
    if foreign:
        raise InputError(
            f"there are predictions for {len(foreign)} images that the test set of config.yaml "
            f"lacks (image_id {first_few(sorted(foreign, key=str), 3)}): they are of another set."
        )
    for one in results:
        item, mask = truth.items[one["image_id"]], one.get("segmentation")
        if mask is not None and list(mask["size"]) != [item.height, item.width]:
            raise InputError(
                f"a prediction for {item.name} has a mask of {mask['size'][0]}x{mask['size'][1]}, "
                f"the image is {item.height}x{item.width} (height x width)."
            )
        found[item.id].append(Thing(one["category_id"], one["bbox"], mask, float(one["score"])))
    for things in found.values():
        things.sort(key=lambda thing: -thing.score)  # a stable sort, as the evaluator's
    return found
