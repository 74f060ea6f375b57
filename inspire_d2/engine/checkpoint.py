"""Saving and loading checkpoints: what a file held is told in one table, a lack stops the run."""

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from fvcore.common.checkpoint import _IncompatibleKeys
from tabulate import tabulate
from torch import nn

from ..errors import InputError, first_few
from .checkpoint_files import LAST, newest_checkpoint, replace_file, save_checkpoint
from .input_channels import fit_input_channels
from .unpickler import load_arrays

__all__ = ["ReportingCheckpointer"]

# A model's components in the table's order; a parameter belongs to the first that matches.
COMPONENTS = (
    ("bottom-up", r"^(backbone\.)?bottom_up\."),
    ("separate feedback", r"^(backbone\.)?feedback_"),
    ("lateral and output convolutions", r"^(backbone\.)?fpn_"),
    ("new in INSPIRE", r"^(backbone\.)?(ise|align|fusion|ssba)\d+\."),
    ("rest of the backbone", r"^backbone\."),
    ("proposal generator", r"^proposal_generator\."),
    ("RoI heads", r"^roi_heads\."),
    ("other", r""),
)
BOTTOM_UP, NEW = COMPONENTS[0][0], COMPONENTS[3][0]
# What an ImageNet checkpoint holds beyond a detector's need: its classifier, and deeper stages.
CLASSIFIER = re.compile(r"^(fc|fc1000|linear|pred)[._]")
STAGE = re.compile(r"^(?:backbone\.bottom_up\.)?(res\d|s\d)\.")
# How torch.load, which reads weights alone, tells of anything else in a file.
UNSAFE = re.compile(r"Unsupported global: GLOBAL (\S+)")


class ReportingCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, which also reports and judges what a file gave the model.

    Raises InputError from :meth:`load` if the file cannot be read, or unless ``allow_partial``:
    if the bottom-up is not fully loaded, a key of the file fits nowhere, or, with ``complete``
    (evaluation, resume), anything at all is missing; where ``allow_partial`` is None, the advice to
    set it is left out. An FPN's checkpoint is complete: without the pyramid's new tensors, which
    then are as they began, the model computes that FPN's outputs.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        allow_partial: bool | None = False,
        complete: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self._allow_partial = allow_partial
        self._complete = complete
        self.resumed = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a file's weights, and trainer state if asked for; see Detectron2's ``load``."""
        self._path = path
        try:
            return super().load(path, *args, **kwargs)
        except OSError as error:
            if "://" not in path:
                raise
            reason = getattr(error, "reason", None) or error
            raise InputError(
                f"checkpoint {path} cannot be fetched ({reason}): get the file where there is a "
                "network, and set train.init_checkpoint=FILE."
            ) from error

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the run's newest whole checkpoint, complete, or start from ``path``.

        Afterwards ``resumed`` says which.

        Raises:
            InputError: it does not fit; or the processes, of several machines, find different ones.
        """
        newest = newest_checkpoint(self.save_dir) if resume else ""
        found = comm.all_gather(os.path.basename(newest))
        if len(set(found)) > 1:
            names = first_few([name or "none" for name in dict.fromkeys(found)])
            raise InputError(
                f"--resume: the processes find different newest checkpoints in {self.save_dir} "
                f"({names}): train.output_dir must be one folder that all machines share."
            )
        self.resumed = bool(newest)
        if self.resumed:
            self._complete, self._allow_partial = True, None
            try:
                return self.load(newest)
            except InputError:
                raise
            except ValueError as error:  # of the optimizer, about groups of its parameters
                raise InputError(
                    f"checkpoint {newest} does not go on with this config's optimizer ({error}): "
                    "take the config.yaml of the run that it is of."
                ) from error
        if resume:
            logging.getLogger(__name__).warning(
                "--resume: %s holds no checkpoint: the run begins anew.", self.save_dir
            )
        return self.load(path, checkpointables=[])

    def save(self, name: str, **state: Any) -> None:
        """Save the model, the checkpointables and more state as NAME.pth, in one step.

        Raises:
            InputError: a weight is not finite, or the file cannot be written; earlier checkpoints
                stay as they are.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        for key, value in self.model.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise InputError(
                    f"{key} is not finite: {name} is not saved, earlier checkpoints of "
                    f"{self.save_dir} are kept; lower optimizer.lr, then go on with --resume."
                )
        data = {key: one.state_dict() for key, one in self.checkpointables.items()}
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        save_checkpoint({"model": self.model.state_dict()} | data | state, path)
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the newest checkpoint in one step, so that a kill leaves the old name or the new."""
        replace_file(os.path.join(self.save_dir, LAST), last_filename_basename)

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            if filename.endswith(".pkl"):
                return _load_pickle(filename, self._path)
            return super()._load_file(filename)
        except InputError:
            raise
        except Exception as error:
            # Pickle, zip and torch each fail in their own way on a file that is none of theirs.
            code = UNSAFE.search(str(error))
            reason = f"it names {code[1]}, which may be code" if code else "it is damaged, "
            reason += "" if code else "still being written, or not a checkpoint"
            raise InputError(
                f"checkpoint {self._path} cannot be read ({type(error).__name__}): {reason}."
            ) from error

    def _load_model(self, checkpoint: Any) -> _IncompatibleKeys:
        self._check_weights(checkpoint["model"])
        if not self._complete:  # else it is a checkpoint of this very model
            fit_input_channels(checkpoint["model"], self.model)
        incompatible = super()._load_model(checkpoint)
        self._judge(incompatible)
        return incompatible

    def _check_weights(self, weights: Any) -> None:
        """Raise InputError unless it is arrays by name."""
        wrong = f"a {type(weights).__name__}"
        if isinstance(weights, Mapping):
            wrong = ""
            for key, value in weights.items():
                array = isinstance(value, np.ndarray | torch.Tensor)
                if not isinstance(key, str) or not array or getattr(value, "is_sparse", False):
                    wrong = f"{key!r}, a {type(value).__name__}, among them"
                    break
        if wrong:
            raise InputError(
                f"checkpoint {self._path} does not hold weights by name: there is {wrong}."
            )

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        """Say nothing: the table has told it."""

    def _judge(self, incompatible: _IncompatibleKeys) -> None:
        """Log the table; raise InputError where the rules of this class are broken."""
        wrong_shape = {key for key, *_ in incompatible.incorrect_shapes}
        # fvcore counts a tensor of another shape as missing, too.
        missing = set(incompatible.missing_keys) - wrong_shape
        keys = [k for k in self.model.state_dict() if not k.endswith("num_batches_tracked")]
        left_over = [k for k in incompatible.unexpected_keys if _is_left_over(k, keys)]
        unexpected = [k for k in incompatible.unexpected_keys if k not in set(left_over)]
        rows, not_loaded = [], {}
        keys_of = _by_component(keys)
        for name, group in keys_of.items():
            absent = [key for key in group if key in missing]
            misshapen = [key for key in group if key in wrong_shape]
            not_loaded[name] = absent + misshapen
            loaded = len(group) - len(not_loaded[name])
            rows.append((name, f"{loaded} of {len(group)}", len(misshapen) or ""))
        table = tabulate(rows, ("component", "loaded", "other shape"), tablefmt="simple")
        logging.getLogger(__name__).info(
            "Tensors loaded from %s:\n%s\nIn the file but not in this model: %d classifier or "
            "later-stage tensors, %d that fit nowhere.",
            self._path,
            table,
            len(left_over),
            len(unexpected),
        )
        if self._allow_partial:
            return
        if unexpected:
            self._refuse(f"{len(unexpected)} of its tensors fit nowhere in the model", unexpected)
        if not_loaded.get(BOTTOM_UP):
            lacking = not_loaded[BOTTOM_UP]
            self._refuse(f"it leaves {len(lacking)} tensors of the bottom-up unset", lacking)
        if not_loaded.get(NEW) == keys_of.get(NEW, []) and self._complete:
            not_loaded.pop(NEW, None)
        everything = [key for group in not_loaded.values() for key in group]
        if self._complete and everything:
            self._refuse(f"it leaves {len(everything)} tensors of the model unset", everything)

    def _refuse(self, what: str, keys: list[str]) -> None:
        advice = "set train.checkpoint.allow_partial=True to go on with the rest."
        if self._allow_partial is None:
            advice = "take the config.yaml of the run that it is of."
        raise InputError(
            f"checkpoint {self._path} does not fit this config: {what} ({first_few(keys, 3)}); "
            f"{advice}"
        )


def _load_pickle(filename: str, name: str) -> dict[str, Any]:
    """Read a .pkl of Detectron2's model zoo, or of Caffe2's, as DetectionCheckpointer does.

    The difference: nothing in it is run. Raises InputError if it would, or holds no weights.
    """
    with PathManager.open(filename, "rb") as file:
        data = load_arrays(file, name)
    if not isinstance(data, dict):
        raise InputError(f"checkpoint {name} holds a {type(data).__name__}, not weights by name.")
    if "model" in data and "__author__" in data:
        return data
    weights = data.get("blobs", data)
    weights = {key: value for key, value in weights.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _is_left_over(key: str, model_keys: list[str]) -> bool:
    """Whether a checkpoint's key is of a classifier, or of a stage that the model does not have."""
    stage = STAGE.match(key)
    if stage is None:
        return CLASSIFIER.match(key) is not None
    return not any(f"bottom_up.{stage[1]}." in model_key for model_key in model_keys)


def _by_component(keys: list[str]) -> dict[str, list[str]]:
    """Sort parameter names into COMPONENTS, leaving out components with none."""
    groups: dict[str, list[str]] = {name: [] for name, _ in COMPONENTS}
    for key in keys:
        name = next(n for n, pattern in COMPONENTS if re.match(pattern, key))
        groups[name].append(key)
    return {name: group for name, group in groups.items() if group}
