"""The variants that tools/study.py compares, and those that its user defines."""

import re
from dataclasses import dataclass, replace

from inspire_d2.errors import InputError

__all__ = ["VARIANTS", "Variant", "defined", "overridden"]


@dataclass(frozen=True)
class Variant:
    """What a run changes of its task's config."""

    inspire: bool  # of which of the task's two configs
    overrides: tuple[str, ...] = ()
    length: float = 1.0  # iterations, relative to the config's


# Why neither --define nor --overrides takes a key.
OF_A_RUN = {
    "train.output_dir": "each run has a folder of its own, in that of --output",
    "train.seed": "each run has one of --seeds",
    **dict.fromkeys(
        [f"dataloader.{split}.dataset.json_file" for split in ("train", "test")],
        "each run has its own, of the images in --root and the centre that it holds out",
    ),
}
# Why --overrides does not besides: it comes last, and so would be one value for all variants.
OF_ALL_RUNS = {
    "train.max_iter": "--iterations sets how long plain trains, and --define a variant of its own",
    "train.init_checkpoint": "name it with --weights",
}
VARIANTS = {
    "plain": Variant(False),
    "plain_1.2x": Variant(False, length=1.2),
    "plain_1.7x": Variant(False, length=1.7),
    "steps1": Variant(True, ("model.backbone.steps=1",)),
    "steps2": Variant(True),
    "steps1_no_ise": Variant(True, ("model.backbone.steps=1", "model.backbone.ise=False")),
    "steps1_align_none": Variant(True, ("model.backbone.steps=1", "model.backbone.align=none")),
    "steps1_align_deform": Variant(True, ("model.backbone.steps=1", "model.backbone.align=deform")),
    "steps2_no_ise": Variant(True, ("model.backbone.ise=False",)),
    "steps2_align_none": Variant(True, ("model.backbone.align=none",)),
    "steps2_align_deform": Variant(True, ("model.backbone.align=deform",)),
    "steps2_separate": Variant(True, ("model.backbone.feedback=separate",)),
    "steps2_gradient1": Variant(True, ("model.backbone.gradient_steps=1",)),
    "steps3_gradient1": Variant(
        True, ("model.backbone.steps=3", "model.backbone.gradient_steps=1")
    ),
}


def defined(definitions: list[list[str]]) -> dict[str, Variant]:
    """Return the variants of --define; raise InputError where one is no variant."""
    variants = {}
    for name, *rest in definitions:
        if not re.fullmatch(r"\w[\w.+-]*", name) or name in VARIANTS | variants:
            raise InputError(
                f"--define {name}: take a new name, of letters, digits and ._+- that a folder "
                "can have."
            )
        if len(rest) < 2 or rest[0] not in VARIANTS or not all("=" in one for one in rest[1:]):
            raise InputError(
                f"--define {name} takes one of {', '.join(VARIANTS)}, then overrides KEY=VALUE."
            )
        base = VARIANTS[rest[0]]
        variants[name] = replace(base, overrides=(*base.overrides, *rest[1:]))
    return variants


def overridden(variants: dict[str, Variant], overrides: list[str]) -> dict[str, Variant]:
    """Return the variants, each with overrides besides.

    Raises:
        InputError: one is none, or sets what the study sets of each run, and would come after it.
    """
    for override in overrides:
        if "=" not in override:
            raise InputError(f"--overrides {override} must be KEY=VALUE.")
        _refuse(override, OF_A_RUN | OF_ALL_RUNS)
    for override in (one for variant in variants.values() for one in variant.overrides):
        _refuse(override, OF_A_RUN)
    return {
        name: replace(variant, overrides=(*variant.overrides, *overrides))
        for name, variant in variants.items()
    }


def _refuse(override: str, reasons: dict[str, str]) -> None:
    """Raise InputError where an override sets one of the keys, by itself or in a mapping."""
    key, _, value = override.partition("=")
    for refused, reason in reasons.items():
        parent, _, name = refused.rpartition(".")
        in_mapping = f"{parent}.".startswith(f"{key}.") and name in re.findall(r"\w+", value)
        if key == refused or in_mapping:
            raise InputError(f"{override}: {reason}.")
