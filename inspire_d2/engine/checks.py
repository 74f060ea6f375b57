"""Checks that a run's data and checkpoint exist, made before anything is loaded."""

import difflib
import os
from collections.abc import Iterator

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig

from ..data.polyp import check_polyp_dataset, polyp_dataset
from ..errors import InputError

__all__ = ["check_datasets", "check_output_dir", "find_checkpoint"]


def check_datasets(cfg: DictConfig, splits: tuple[str, ...]) -> None:
    """Raise InputError if a data set of ``dataloader.train`` or ``.test`` is not there."""
    for split in splits:
        for node in _calls(cfg.dataloader[split].dataset):
            target = locate(node._target_) if isinstance(node._target_, str) else node._target_
            if target is polyp_dataset:
                check_polyp_dataset(**{k: v for k, v in node.items() if k != "_target_"})
            elif "names" in node:
                names = [node.names] if isinstance(node.names, str) else node.names
                for name in names:
                    _check_registered(name)


def _calls(node: DictConfig) -> Iterator[DictConfig]:
    """Walk a config's lazy calls, the outermost first."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        children = node.values()
    else:
        children = node if isinstance(node, ListConfig) else ()
    for child in children:
        yield from _calls(child)


def _check_registered(name: str) -> None:
    """Check a data set of Detectron2's catalogue: its name, and its files where they are known."""
    if name not in DatasetCatalog.list():
        close = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise InputError(f"data set {name} is not registered{hint}")
    metadata = MetadataCatalog.get(name).as_dict()
    for key in ("json_file", "image_root"):
        path = metadata.get(key)
        if path and not os.path.exists(path):
            raise InputError(
                f"data set {name}: {path} does not exist; put the data there, or set "
                "DETECTRON2_DATASETS to the folder that holds it."
            )


def check_output_dir(output_dir: str, *, resume: bool) -> None:
    """Raise InputError if a run cannot write to its folder, or would write over another run's."""
    if not resume and os.path.exists(os.path.join(output_dir, "last_checkpoint")):
        raise InputError(
            f"{output_dir} holds the checkpoints of a run: pass --resume to go on with it, or "
            "another train.output_dir."
        )
    try:
        os.makedirs(output_dir, exist_ok=True)
    except OSError as error:
        raise InputError(f"train.output_dir={output_dir}: {error.strerror}.") from error
    if not os.access(output_dir, os.W_OK):
        raise InputError(f"train.output_dir={output_dir} cannot be written to.")


def find_checkpoint(cfg: DictConfig, *, eval_only: bool, resume: bool, named: bool) -> str:
    """Return the path of the checkpoint that a run starts from; "" to start from nothing.

    To score, that is the one ``named`` on the command line, else the run's last: never the
    config's own, which holds what training starts from.

    Raises:
        InputError: it is not there, or there is none to score.
    """
    run_dir, path = cfg.train.output_dir, cfg.train.init_checkpoint or ""
    last = DetectionCheckpointer(None, run_dir).get_checkpoint_file()
    if eval_only and not named:
        if not last:
            raise InputError(
                f"--eval-only: {run_dir} holds no checkpoint; name one with "
                "train.init_checkpoint=FILE, or the run's folder with train.output_dir=RUN."
            )
        path = last
    elif resume and last:
        path = last
    # What has a scheme (detectron2://, https://) is fetched by Detectron2 when it is loaded.
    if path and "://" not in path and not os.path.isfile(path):
        raise InputError(
            f"checkpoint {path} does not exist; name another with train.init_checkpoint=FILE "
            "(README.md says how to make ImageNet's)."
        )
    return path
