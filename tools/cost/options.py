"""The command line of the benchmark: defaults that depend on each other, and every check."""

import argparse
import difflib
import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from inspire_d2.errors import InputError

from .setting import MODES, PRECISIONS, SCOPES, Setting
from .subjects import DEFAULT, QUICK, SUBJECTS

__all__ = ["fill_in", "parse_size", "plan_settings"]

REPOSITORY = Path(__file__).resolve().parents[2]
MEMORY = "memory"
DEVICES = ("cpu", "cuda")
# A round of the detector takes a hundred times as long as one of the pyramid.
DEFAULTS = {
    "subjects": DEFAULT,
    "scopes": list(SCOPES),
    "modes": [*MODES, MEMORY],
    "sizes": ["512"],
    "rounds": {"pyramid": 12, "backbone": 8, "detector": 4},
    "warmup": {"pyramid": 3, "backbone": 2, "detector": 2},
    "children": 1,
}
QUICKLY = {
    "subjects": QUICK,
    "scopes": ["pyramid", "backbone"],  # the detector's heads are slow at any size
    "sizes": ["256"],
    "rounds": 3,
    "warmup": 1,
}
SCALING = {
    "scopes": ["backbone"],
    "modes": list(MODES),
    "sizes": ["256", "384", "512", "768", "1024"],
}
PROFILE = {"scopes": ["backbone"], "modes": ["train"]}
SCORING = {"rounds": 5, "warmup": 1}
SCORING_QUICKLY = {"rounds": 3, "warmup": 1}
LOADER = {
    "rounds": 20,
    "warmup": 1,
    "config_file": str(REPOSITORY / "configs/polyp/mask_rcnn_r18_inspire.py"),
}
# What describes models and images, and what it is where it is not given.
NOT_SCORING = {
    **dict.fromkeys(("subjects", "scopes", "modes", "sizes", "children", "threads")),
    "batches": [1],
    "devices": ["cpu"],
    "precisions": ["fp32"],
    "channels_last": False,
    "compile": False,
}
NOT_LOADER = {**NOT_SCORING, "seed": 0}
NOT_STARTUP = {**NOT_LOADER, "rounds": None, "warmup": None}
NOT_PROFILE = dict.fromkeys(("subjects", "rounds", "warmup", "children"))


def fill_in(args: argparse.Namespace) -> None:
    """Check the options and replace those that were not given, in place.

    Afterwards rounds and warmup are a number for each scope, or with --scoring and --loader one.

    Raises:
        InputError: an option out of its range, or without meaning, or options that exclude each
            other.
    """
    if not 0 <= args.seed < 2**32:  # what all random generators take
        raise InputError(f"--seed must be 0 or more, and below 2^32, not {args.seed}.")
    if args.config_file is not None and not (args.startup or args.loader):
        raise InputError("--config-file goes with --startup or --loader.")
    kinds = ("quick", "scaling", "profile", "startup", "scoring", "loader")
    special = [name for name in kinds if getattr(args, name)]
    if len(special) > 1 and special not in (["quick", "scoring"], ["quick", "loader"]):
        raise InputError(f"--{special[0]} and --{special[1]} exclude each other.")
    if args.scoring:
        _fill_in_apart(args, "scoring", NOT_SCORING, SCORING_QUICKLY if args.quick else SCORING)
        return
    if args.loader:
        _fill_in_apart(args, "loader", NOT_LOADER, LOADER | ({"rounds": 3} if args.quick else {}))
        return
    if args.startup:
        _fill_in_apart(args, "startup", NOT_STARTUP, {})
        return
    if args.profile:
        _refuse_given(args, "profile", NOT_PROFILE)
    defaults = dict(DEFAULTS)
    for name, changed in (("quick", QUICKLY), ("scaling", SCALING), ("profile", PROFILE)):
        if getattr(args, name):
            defaults.update(changed)
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.subjects == ["all"]:
        args.subjects = list(SUBJECTS)
    _check_names("subject", args.subjects, SUBJECTS)
    _check_names("scope", args.scopes, SCOPES)
    _check_names("mode", args.modes, (*MODES, MEMORY))
    _check_names("device", args.devices, DEVICES)
    _check_names("precision", args.precisions, PRECISIONS)
    for name in ("rounds", "warmup"):
        value = getattr(args, name)
        by_scope = value if isinstance(value, dict) else dict.fromkeys(SCOPES, value)
        _check_positive(name, min(by_scope.values()))
        setattr(args, name, by_scope)
    for name, value in (("children", args.children), ("batches", min(args.batches))):
        _check_positive(name, value)
    if args.threads is not None:
        _check_positive("threads", args.threads)
        torch.set_num_threads(args.threads)
    if "cuda" in args.devices and not torch.cuda.is_available():
        raise InputError("--devices cuda: torch finds no GPU here.")
    if "fp16" in args.precisions and "cpu" in args.devices:
        raise InputError("--precisions fp16 is for GPUs; on the CPU take bf16.")
    if args.compile:
        _check_compiler(args.devices)
    if args.profile:
        _check_profile(args)


def _fill_in_apart(
    args: argparse.Namespace, kind: str, without: dict[str, Any], defaults: dict[str, Any]
) -> None:
    """Check and fill in the options of a part that measures no models."""
    _refuse_given(args, kind, without)
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name in ("rounds", "warmup"):
        if name in defaults:
            _check_positive(name, getattr(args, name))


def _refuse_given(args: argparse.Namespace, kind: str, without: dict[str, Any]) -> None:
    """Raise InputError where an option is not what it is where it is not given."""
    for name, value in without.items():
        if getattr(args, name) != value:
            raise InputError(f"--{name.replace('_', '-')} has no meaning with --{kind}.")


def plan_settings(args: argparse.Namespace) -> list[Setting]:
    """List the settings that the options name, in the order of measurement."""
    sizes = [parse_size(text) for text in args.sizes]
    combined = itertools.product(args.devices, args.precisions, sizes, args.batches, args.scopes)
    return [
        Setting(
            scope, height, width, batch, device, precision, args.channels_last, args.compile,
            args.seed,
        )
        for device, precision, (height, width), batch, scope in combined
    ]  # fmt: skip


def parse_size(text: str) -> tuple[int, int]:
    """Read "512" or "800x1333" as (height, width) in pixels.

    Raises:
        InputError: it is neither, or a side is below 64: the coarsest level would be one pixel.
    """
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise InputError(
            f"--sizes takes N or HEIGHTxWIDTH in pixels, such as 800x1333, not {text}."
        )
    height, width = int(sides[0]), int(sides[-1])
    if min(height, width) < 64:
        raise InputError(f"--sizes {text} is too small: sides must be 64 pixels or more.")
    return height, width


def _check_names(kind: str, given: Collection[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}" if close else f"take {', '.join(known)}"
            raise InputError(f"there is no {kind} {name}: {hint}.")


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise InputError(f"--{name} must be 1 or more, not {value}.")


def _check_compiler(devices: Collection[str]) -> None:
    """Compile a small function on each device: whether that works depends on what is installed."""
    for device in devices:
        try:
            torch.compile(torch.sin)(torch.zeros(8, device=device))
        except Exception as error:  # of many kinds, all of them torch's or the compiler's own
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"--compile does not work on {device} here: {reason}") from error


def _check_profile(args: argparse.Namespace) -> None:
    _check_names("subject", [args.profile], SUBJECTS)
    for name in ("scopes", "modes", "sizes", "batches", "devices", "precisions"):
        if len(getattr(args, name)) > 1:
            raise InputError(f"--profile is of one step: name one of --{name}.")
    if args.modes[0] not in MODES:
        raise InputError(f"--profile takes a mode that has a step: {' or '.join(MODES)}.")
    if reason := SUBJECTS[args.profile].obstacle(args.scopes[0]):
        raise InputError(f"{args.profile} cannot be profiled in {args.scopes[0]}: it {reason}.")
