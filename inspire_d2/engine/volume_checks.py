"""Whether a prepared MRI set fits the config's model: its labels and its channels."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ..errors import InputError, first_few

__all__ = ["check_volumes"]

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
    for region, values in (OmegaConf.select(cfg, _REGIONS) or {}).items():
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
    if training and all(entry["label"] is None for entry in content["cases"]):
        raise InputError(
            f"the set {name} of dataloader.{split} cannot be scored, no case of it has a label; "
            "predict its volumes with tools/predict_mri.py."
        )
    slices = 2 * (OmegaConf.select(cfg, f"dataloader.{split}.mapper.neighbours") or 0) + 1
    channels = len(content["channels"]) * slices
    for key in _CHANNELS:
        expected = OmegaConf.select(cfg, key)
        if expected is not None and expected != channels:
            each = f" in each of {slices} slices" if slices > 1 else ""
            raise InputError(
                f"the set {name} has the channels {', '.join(content['channels'])}{each}, but "
                f"{key} is {expected}: set it to {channels}."
            )
