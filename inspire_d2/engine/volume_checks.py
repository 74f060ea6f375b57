"""Whether a prepared MRI set fits the config's model, and the one that it was trained on."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ..data.mri_orientation import DIRECTIONS, common_orientation, slice_direction
from ..data.mri_warnings import pixel_size, sizes_differ
from ..data.regions import region_labels
from ..errors import InputError, first_few, warn

__all__ = ["check_same_kind", "check_volumes"]

_REGIONS = "model.sem_seg_head.loss.regions"
# Of INSPIRE's and the plain U-Net's encoder, and of Detectron2's ResNet.
_CHANNELS = ("model.backbone.bottom_up.in_channels", "model.backbone.bottom_up.stem.in_channels")


def check_volumes(
    cfg: DictConfig, split: str, name: str, content: dict[str, Any], *, training: bool
) -> None:
    """Raise InputError where a set cannot train or score the config's model.

    ``name`` is that of a set of ``dataloader.SPLIT``, ``content`` its index's. When ``training``, a
    set to score must hold a label: what it scores would be missed after the last iteration.
    """
    regions = OmegaConf.select(cfg, _REGIONS) or {}
    for region, values in regions.items():
        if not isinstance(values, ListConfig):
            raise InputError(
                f"{_REGIONS}: {region} is {values!r}, not a list of label values; to leave it "
                f"out: {_REGIONS}='{{{region}: null}}'."
            )
        if not set(values) & set(content["labels"]):
            raise InputError(
                f"no label of the region {region} ({first_few(values)}) is among those of the set "
                f"{name} ({first_few(content['labels']) or 'it has none'}): set {_REGIONS}, or "
                "prepare the set with --label-values."
            )
    if regions:  # a map of labels must be able to hold them, as far as the set has them and at all
        named = sorted({value for values in regions.values() for value in values})
        for labels in (content["labels"], named):
            region_labels({name: list(values) for name, values in regions.items()}, labels)
    if training and all(entry["label"] is None for entry in content["cases"]):
        raise InputError(
            f"the set {name} of dataloader.{split} cannot be scored, no case of it has a label; "
            "predict its volumes with tools/predict_mri.py."
        )
    key = f"dataloader.{split}.mapper.neighbours"
    neighbours = OmegaConf.select(cfg, key) or 0
    if type(neighbours) is not int or neighbours < 0:
        raise InputError(f"{key}={neighbours!r} must be a whole number, 0 or more.")
    slices = 2 * neighbours + 1
    channels = len(content["channels"]) * slices
    for key in _CHANNELS:
        expected = OmegaConf.select(cfg, key)
        if expected is not None and expected != channels:
            each = f" in each of {slices} slices" if slices > 1 else ""
            raise InputError(
                f"the set {name} has the channels {', '.join(content['channels'])}{each}, but "
                f"{key} is {expected}: set it to {channels}."
            )


def check_same_kind(train: dict[str, Any], name: str, content: dict[str, Any]) -> None:
    """Raise InputError where a set to score is of another kind than the one trained on; or warn.

    ``train`` is the index's content of the latter, ``content`` that of the set called ``name``.
    """
    named = [", ".join(index["channels"]) for index in (train, content)]
    alone = len(content["channels"]) == len(train["channels"]) == 1
    # A channel that has no name of its own is of the model's only one.
    if named[0] != named[1] and not (alone and content["channels"][0] in ("image", "0000")):
        raise InputError(
            f"the set {name} has the channels {named[1]}, the model is trained on {named[0]}."
        )
    stripped = [index["cases"][0]["skull_stripped"] for index in (train, content)]
    if stripped[0] != stripped[1]:
        option = "--skull-stripped" if stripped[0] else "--no-skull-stripped"
        raise InputError(
            f"the set {name} is normalised otherwise than the one trained on: prepare it with "
            f"{option}."
        )
    along = [
        {slice_direction(one) for one in index["cases"]} - {None} for index in (train, content)
    ]
    if len(along[0]) == 1 and along[1] - along[0]:
        ours, theirs = DIRECTIONS[along[0].pop()], DIRECTIONS[min(along[1] - along[0])]
        raise InputError(
            f"slices of the set {name} go {theirs}, those that the model is trained on {ours}: "
            "prepare it with another --axis."
        )
    lie = [common_orientation(index["cases"]) for index in (train, content)]
    if None not in lie and lie[0] != lie[1]:
        warn(
            f"slices, rows and columns of the set {name} lead to {lie[1]}, those that the model is "
            f"trained on to {lie[0]}: expect worse scores; tools/predict_mri.py would turn them"
        )
    pixels = [
        [pixel_size(one) for one in index["cases"] if one["reference"]]
        for index in (train, content)
    ]
    if all(pixels) and (
        sizes_differ(min(pixels[0]), min(*pixels[0], *pixels[1]))
        or sizes_differ(max(pixels[0]), max(*pixels[0], *pixels[1]))
    ):
        sizes = [f"{min(sizes):.3g} to {max(sizes):.3g} mm" for sizes in pixels]
        warn(
            f"the set {name} has pixels of {sizes[1]}, the model is trained on {sizes[0]}: nothing "
            "is resampled, expect worse scores"
        )
    patients, files = (
        {one.get(key) for one in train["cases"]} - {None} for key in ("patient", "digest")
    )
    both = [
        one["case"]
        for one in content["cases"]
        if one["patient"] in patients or one.get("digest") in files
    ]
    if both:
        warn(
            f"{len(both)} cases of the set {name} are of patients trained on ({first_few(both, 3)})"
            ": its scores say little about new ones"
        )
