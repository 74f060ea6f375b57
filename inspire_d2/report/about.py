"""What was trained, on what, at what cost: tables from the config, the data and the log."""

import datetime
import os
import statistics
from collections import Counter
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from inspire_d2.data.coco_checks import read_coco
from inspire_d2.errors import InputError
from inspire_d2.report.run import Run
from inspire_d2.report.subject import Subject
from inspire_d2.report.tables import Table, plain_table

__all__ = ["config_differences", "config_rows", "cost_rows", "data_table", "headline"]

NOT_SET = "not set"


def config_rows(cfg: DictConfig) -> list[tuple[str, str]]:
    """Return the choices that a reader asks for first, each with its name."""
    optimizer = cfg.optimizer
    rows = [
        ("model", _class(cfg, "model")),
        ("pyramid or backbone", _class(cfg, "model.backbone")),
        ("INSPIRE", _pyramid(cfg)),
        ("encoder", _encoder(cfg)),
        ("starts from", _text(cfg.train.get("init_checkpoint")) or "random weights"),
        ("iterations", _text(cfg.train.get("max_iter"))),
        ("images an iteration", _text(_get(cfg, "dataloader.train.total_batch_size"))),
        ("optimizer", f"{_class(cfg, 'optimizer')}, learning rate {_text(optimizer.get('lr'))}"),
        ("schedule", _class(cfg, "lr_multiplier.scheduler")),
        ("images are scored at", _sizes(cfg)),
        ("mixed precision", "yes" if _get(cfg, "train.amp.enabled") else "no"),
        ("seed", _text(cfg.train.get("seed"))),
    ]
    return [(name, value) for name, value in rows if value]


def config_differences(ours: Subject, theirs: Subject) -> Table:
    """Return a table of the keys in which two configs differ."""
    flat = [_flat(OmegaConf.to_container(s.run.cfg, resolve=True)) for s in (ours, theirs)]
    keys = [key for key in dict.fromkeys([*flat[0], *flat[1]]) if flat[0].get(key, NOT_SET) !=
            flat[1].get(key, NOT_SET)]  # fmt: skip
    rows = [[key, *(str(one.get(key, NOT_SET)) for one in flat)] for key in keys]
    head = ["key", ours.name, theirs.name]
    return plain_table(head, rows, f"{len(keys)} differences between the configs")


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return a config's leaves by their dotted keys."""
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        children = enumerate(value)
    else:
        return {key: value}
    found: dict[str, Any] = {}
    for name, child in children:
        found |= _flat(child, f"{key}.{name}" if key else str(name))
    return found


def data_table(subject: Subject) -> tuple[Table | None, list[str]]:
    """Return a table of the training and the test set, and notes on what they have in common."""
    cfg, notes = subject.run.cfg, []
    rows, files, centres = [], {}, {}
    for split in ("train", "test"):
        content = _read_json_of(cfg, split)
        if content is None:
            continue
        rows.append((_set_name(cfg, split), split, *_counts(content)))
        files[split] = {os.path.basename(one["file_name"]) for one in content["images"]}
        centres[split] = {str(one["centre"]) for one in content["images"] if one.get("centre")}
    if len(files) == 2:
        if both := files["train"] & files["test"]:
            notes.append(
                f"{len(both)} of the {len(files['test'])} test images have the name of a training "
                "image: if they are the same, the scores are too good."
            )
        if both := centres["train"] & centres["test"]:
            notes.append(
                f"Training and test images are both from {', '.join(sorted(both))}: the scores "
                "do not tell how the model does at another hospital."
            )
    head = ["data set", "split", "images", "with objects", "objects", "object size", "image size"]
    head.append("centres (images)")
    note = "Object size: median and, in brackets, quartiles, in percent of the image's area."
    return (plain_table(head, rows, note=note) if rows else None), notes


def cost_rows(subject: Subject) -> list[tuple[str, str]]:
    """Return parameters, seconds, memory, as far as the run's files have them."""
    run, rows = subject.run, []
    if subject.parameters:
        text = f"{subject.parameters:.1f} M"
        if run.log.trained is not None:
            text += f", {run.log.trained:.1f} M of them trained"
        rows.append(("parameters", text))
    if seconds := [value for _, value in run.series.get("time", ())]:
        median = statistics.median(seconds)
        done = _iterations_done(run)
        total = datetime.timedelta(seconds=round(median * done))
        rows.append(("seconds an iteration", f"{median:.3g} (median)"))
        rows.append(("training", f"about {total} (h:mm:ss), {done} iterations"))
    if memory := [value for _, value in run.series.get("memory_gb", ())]:
        rows.append(("peak memory in training", f"{max(memory):.1f} GB a process"))
    if run.log.seconds_per_image is not None:
        size = _get(run.cfg, "dataloader.test.batch_size") or 1
        unit = "a volume" if run.has_volumes else "an image" if size == 1 else f"{size} images"
        rows.append(("scoring", f"{run.log.seconds_per_image:.3g} s {unit}, the model alone"))
    return rows


def headline(subject: Subject) -> str:
    """Say what model this is, what it was trained on, and on what it was scored."""
    cfg = subject.run.cfg
    model = f"{_class(cfg, 'model')} with {_class(cfg, 'model.backbone')}"
    text = subject.run.log.model or model
    if subject.parameters:
        text += f" ({subject.parameters:.1f} M parameters)"
    batch = _get(cfg, "dataloader.train.total_batch_size")
    text += f", trained on data set {_set_name(cfg, 'train')}"
    text += f" for {_iterations(subject.run)} iterations"
    text += f" of {batch} images" if batch else ""
    text += f". Scored on data set {_set_name(cfg, 'test')}"
    if subject.volumes:
        volumes = len({row["case"] for row in subject.volumes})
        text += f": {volumes} {'volume' if volumes == 1 else 'volumes'}"
    elif subject.cases:
        things = "polyps" if subject.run.has_polyps else "objects"
        positives = sum(1 for case in subject.cases if case.num_true)
        total = sum(case.num_true for case in subject.cases)
        text += f": {len(subject.cases)} images, {positives} of them with {total} {things}"
        centres = sorted({case.item.centre for case in subject.cases if case.item.centre})
        if centres:
            text += f", from {', '.join(centres)}" if len(centres) < 8 else ""
    return text + "."


def _iterations(run: Run) -> str:
    """Return the iterations trained, of how many where the run has not come to its end."""
    done, last = _iterations_done(run), run.cfg.train.max_iter
    return str(last) if done == last else f"{done} of {last}"


def _iterations_done(run: Run) -> int:
    lines, last = run.series.get("total_loss"), run.cfg.train.max_iter
    if lines and lines[-1][0] + 1 < last and not (run.folder / "model_final.pth").exists():
        return lines[-1][0] + 1
    return last


def _counts(content: dict[str, Any]) -> tuple[Any, ...]:
    """Count images and objects of a COCO json, and describe their sizes."""
    areas = {image["id"]: image["width"] * image["height"] for image in content["images"]}
    things = [one for one in content["annotations"] if not one.get("iscrowd", 0)]
    shares = [100 * _pixels(one) / areas[one["image_id"]] for one in things]
    size = ""
    if shares:
        low, median, high = np.quantile(shares, [0.25, 0.5, 0.75])
        size = f"{median:.2g} % ({low:.2g} to {high:.2g})"
    by_area = sorted(content["images"], key=lambda image: areas[image["id"]])
    least, most = (f"{image['width']}×{image['height']}" for image in (by_area[0], by_area[-1]))
    centres = Counter(str(one["centre"]) for one in content["images"] if one.get("centre"))
    return (
        len(content["images"]),
        len({one["image_id"] for one in things}),
        len(things),
        size,
        least if least == most else f"{least} to {most}",
        ", ".join(f"{name} ({count})" for name, count in sorted(centres.items())),
    )


def _pixels(annotation: dict[str, Any]) -> float:
    area = annotation.get("area")
    return float(area if area is not None else annotation["bbox"][2] * annotation["bbox"][3])


def _read_json_of(cfg: DictConfig, split: str) -> dict[str, Any] | None:
    """Read a split's COCO json; None where it has none, or it is not at hand."""
    json_file = _get(cfg, f"dataloader.{split}.dataset.json_file")
    name = _set_name(cfg, split)
    if json_file is None and name in MetadataCatalog:
        json_file = MetadataCatalog.get(name).as_dict().get("json_file")
    if json_file is None or not os.path.isfile(json_file):
        return None
    try:
        return read_coco(str(json_file))
    except InputError:
        return None


def _set_name(cfg: DictConfig, split: str) -> str:
    node = _get(cfg, f"dataloader.{split}.dataset") or {}
    names = node.get("names") or node.get("name") or "without a name"
    return names if isinstance(names, str) else " + ".join(names)


def _get(cfg: DictConfig, key: str) -> Any:
    """Return a config's value; None where it has none, or is of another shape."""
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return None


def _class(cfg: DictConfig, key: str) -> str:
    """Return the name of what a lazy call makes."""
    target = _get(cfg, f"{key}._target_")
    return str(target).rpartition(".")[2] if target else ""


def _pyramid(cfg: DictConfig) -> str:
    """Return the arguments of INSPIRE's that the config sets."""
    if "Inspire" not in _class(cfg, "model.backbone"):
        return ""
    backbone = _get(cfg, "model.backbone")
    names = ("steps", "align", "ise", "feedback", "out_channels")
    return ", ".join(f"{name} {backbone[name]}" for name in names if name in backbone)


def _encoder(cfg: DictConfig) -> str:
    for key in ("model.backbone.bottom_up", "model.backbone"):
        if name := _class(cfg, key):
            depth = _get(cfg, f"{key}.stages.depth")
            return name if depth is None else f"{name}-{depth}"
    return ""


def _sizes(cfg: DictConfig) -> str:
    """Return the size that the first test augmentation brings images to."""
    augmentations = _get(cfg, "dataloader.test.mapper.augmentations")
    for one in augmentations or ():
        if "short_edge_length" in one:
            return f"shortest side {one.short_edge_length}, longest at most {one.get('max_size')}"
    return ""


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
