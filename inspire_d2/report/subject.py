"""A run with all that a report tells of it: from its files, else from its model."""

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspire_d2.engine.trainer import without_nan
from inspire_d2.errors import InputError
from inspire_d2.evaluation.volume_report import RECORD_KEYS
from inspire_d2.evaluation.volume_report import summarize as summarize_volumes
from inspire_d2.report.calibration import Calibration
from inspire_d2.report.cases import Case, case_from_row, judge_case
from inspire_d2.report.inference import VOLUMES, Predicted, predict
from inspire_d2.report.run import Run, read_json, read_run
from inspire_d2.report.saved import read_saved
from inspire_d2.report.truth import Item, Thing, Truth, read_truth, shown_names

__all__ = ["Subject", "gather"]

PER_IMAGE = "polyp_per_image.json"
ROW_KEYS = {"image_id", "file_name", "dice", "iou", "gt_pixels", "num_gt", "num_pred", "found"}
# Of figures that are rounded nowhere, more than sums in another order explain.
DIFFERENT = 1e-4


@dataclass
class Subject:
    """What a report is about."""

    run: Run
    truth: Truth | None = None
    cases: list[Case] = field(default_factory=list)
    calibration: Calibration | None = None
    volumes: list[dict[str, Any]] = field(default_factory=list)  # rows of volume_per_case.json
    evaluation: dict[str, dict[str, float | None]] = field(default_factory=dict)
    parameters: float | None = None  # millions
    notes: list[str] = field(default_factory=list)  # what the reader must know

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.run.name


def gather(
    folder: Path,
    *,
    checkpoint: str | None = None,
    device: str | None = None,
    may_predict: bool = True,
) -> Subject:
    """Read a run, and run its model where what it saved does not show each case.

    Args:
        folder: the output folder of train_net.py.
        checkpoint: weights to predict with, whatever the run saved.
        device: of the model; None takes the GPU if there is one.
        may_predict: whether the model may be run.

    Raises:
        InputError: the folder holds no run, a file of it cannot be read, or the checkpoint that was
            named cannot be used. What else is missing becomes a note.
    """
    run = read_run(folder)
    notes = [run.note] if run.note else []
    subject = Subject(run, evaluation=run.evaluation, parameters=run.log.parameters, notes=notes)
    model = _Model(subject, checkpoint, device, may_predict)
    if run.has_volumes:
        _gather_volumes(subject, model)
    elif run.has_polyps or run.has_boxes:
        _gather_images(subject, model)
    if not subject.evaluation:
        subject.notes.append(
            "This run has not been scored: python train_net.py --eval-only --config-file "
            f"{folder}/config.yaml does it."
        )
    return subject


class _Model:
    """A run's model, which is run if it may and can."""

    def __init__(
        self, subject: Subject, checkpoint: str | None, device: str | None, allowed: bool
    ) -> None:
        self._subject, self._device, self._allowed = subject, device, allowed
        self.named = checkpoint

    def predict(self, what: str, *, score: bool) -> Predicted | None:
        """Return predictions, or None with a note of why ``what`` is missing."""
        run, notes = self._subject.run, self._subject.notes
        if not self._allowed:
            notes.append(f"{what} not saved by this run; without --no-predict they are made now.")
            return None
        if not self.named and not run.checkpoint:
            notes.append(
                f"{what} not saved by this run, and it holds no checkpoint to make them with: "
                "name one with --checkpoint."
            )
            return None
        try:
            predicted = predict(
                run,
                self._subject.truth,
                checkpoint=self.named,
                device=self._device,
                score=score,
            )
        except InputError as error:
            if self.named:
                raise
            notes.append(f"{what} not saved by this run, and cannot be made now: {error}")
            return None
        self._subject.parameters = predicted.parameters
        if predicted.evaluation:
            self._subject.evaluation = predicted.evaluation
        name = Path(self.named or run.checkpoint).name
        notes.append(f"Predictions of each case were made for this page, with {name}.")
        return predicted


def _gather_volumes(subject: Subject, model: _Model) -> None:
    path = subject.run.results / VOLUMES
    rows = None if model.named else read_json(path)
    if rows is not None and not _have(rows, RECORD_KEYS):
        raise InputError(f"{path} is not what VolumeEvaluator writes: a row lacks a key.")
    if rows is None:
        predicted = model.predict("The figures of each volume were", score=True)
        rows = predicted.volumes if predicted else []
    subject.volumes = rows
    if rows and not subject.evaluation:
        subject.evaluation = without_nan({"volume": summarize_volumes(rows)})


def _gather_images(subject: Subject, model: _Model) -> None:
    run = subject.run
    try:
        subject.truth = read_truth(run.cfg)
    except InputError as error:
        subject.notes.append(f"{error} So there are no pictures.")
    found: dict[Any, list[Thing]] | None = None
    if subject.truth is not None:
        if subject.truth.problem:
            subject.notes.append(f"{subject.truth.problem} So there are no pictures.")
        if run.has_boxes and not model.named:
            found = read_saved(run.results, subject.truth)
        if found is None and not subject.truth.problem:
            predicted = model.predict(
                "The predictions of each image were",
                score=not subject.evaluation or model.named is not None,
            )
            if predicted is not None:
                found, subject.calibration = predicted.found, predicted.pixels
    if found is None:
        _read_rows(subject)
        return
    subject.cases = [
        judge_case(item, found[key], run.threshold, with_dice=run.has_polyps)
        for key, item in subject.truth.items.items()
        if key in found
    ]
    if subject.calibration is None:
        subject.calibration = Calibration("detections")
        for case in subject.cases:
            if case.scored:
                subject.calibration.add(*zip(*case.scored, strict=True))
    _compare_with_evaluation(subject)


def _read_rows(subject: Subject) -> None:
    """Take each image's figures from the file that PolypEvaluator leaves."""
    path = subject.run.results / PER_IMAGE
    rows = read_json(path) or []
    if not _have(rows, ROW_KEYS):
        raise InputError(f"{path} is not what PolypEvaluator writes: a row lacks a key.")
    names = shown_names([row["file_name"] for row in rows])
    items = subject.truth.items if subject.truth else {}
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        own = Item(row["image_id"], name, 0, 0, centre=row.get("centre"), number=number)
        item = items.get(row["image_id"], own)
        subject.cases.append(case_from_row(row, item))


def _have(rows: Any, keys: Set[str]) -> bool:
    """Whether something read from json is a list of rows with these keys."""
    return isinstance(rows, list) and all(isinstance(r, dict) and r.keys() >= keys for r in rows)


def _compare_with_evaluation(subject: Subject) -> None:
    """Note where the predictions at hand are not those that were scored."""
    scored = subject.evaluation.get("polyp", {}).get("Dice")
    positives = [case.dice for case in subject.cases if case.num_true]
    if scored is None or not positives or not subject.run.has_polyps:
        return
    own = sum(positives) / len(positives)
    if abs(own - scored) > DIFFERENT:
        subject.notes.append(
            f"evaluation.json has a Dice of {scored:.4f}, the predictions on this page one of "
            f"{own:.4f}: they are of different checkpoints, or the test set has changed since."
        )
