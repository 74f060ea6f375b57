"""Volume metrics per patient: Dice, surface distances and lesions of each region.

Shape shorthand in this module: K regions, S, H, W (voxels; S counts slices).
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..data.regions import IGNORED, paint
from ..errors import InputError, first_few
from .dice import crop_to_foreground, dice, surface_distances, volume_diagonal
from .lesions import count_lesions
from .volume_report import make_table, summarize, write_report

__all__ = ["VolumeEvaluator", "judge_volume", "stored_order"]

logger = logging.getLogger(__name__)


class VolumeEvaluator(DatasetEvaluator):
    """Compare the regions that a model predicts for whole volumes with the label files'.

    A region is a set of label values; regions may lie within each other. Each volume is judged as
    a whole, never slice by slice; a patient's figure is the mean of its volumes, and all results
    are means over patients. ``evaluate`` returns ``{"volume": {...}}``, where R stands for each
    region's name:

    =====================  =========================================================================
    Dice                   mean of the regions' Dice
    R Dice, R HD95,        over all patients, the distances in mm; what they are where a mask is
    R ASSD                 empty is told with the table (``volume_report.NOTES``)
    R lesion_precision,    by connected components, see ``LesionCounts``
    R lesion_recall,
    R lesion_F1
    R Dice_present         over the patients, and their volumes, whose truth has the region; left
                           out where no patient has it
    R patients             number of patients
    R both_empty           number of volumes in which neither has the region
    R missed               ... in which the truth alone has it
    R false_alarm          ... in which the prediction alone has it
    =====================  =========================================================================
    """

    def __init__(
        self,
        dataset_name: str,
        regions: Mapping[str, Sequence[int]],
        threshold: float = 0.5,
        exclusive: bool = False,
        output_dir: str | None = None,
        write_predictions: bool = False,
        distributed: bool = True,
    ) -> None:
        """Set what is judged.

        Args:
            dataset_name: what logs and errors call the set.
            regions: label values by name, in the order of the model's outputs, outer regions first.
            threshold: 0..1; a voxel of this probability or more is in a region, and in those
                around it (``data.regions.paint``: what is judged is what is written).
            exclusive: whether the regions are classes, of which the most probable is taken.
            output_dir: where volume_per_case.json, volume_per_case.csv and volume_table.md go; None
                writes nothing.
            write_predictions: write predictions/CASE.nii.gz there as well.
            distributed: gather the records of all ranks.

        Raises:
            InputError: no regions, one without label values or without one of its own, a threshold
                out of range or, with ``exclusive``, other than 0.5, predictions to be written
                nowhere, or MONAI is not installed.
        """
        if find_spec("monai") is None:  # imported when it is needed, which is after the predictions
            raise InputError("surface distances need MONAI: pip install 'inspire_d2[medical]'")
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold must be 0..1, got {threshold}")
        if write_predictions and not output_dir:
            raise InputError("predictions are to be written: give an output_dir")
        self._dataset_name = dataset_name
        self._regions = _plain_regions(regions)
        self._labels = sorted({value for values in self._regions.values() for value in values})
        self._threshold, self._exclusive = threshold, exclusive
        self._paint(np.zeros((len(self._regions), 0, 0, 0)), self._labels)  # raises
        self._output_dir = output_dir
        self._write_predictions = write_predictions
        self._distributed = distributed
        self.reset()

    def reset(self) -> None:
        """Forget all volumes."""
        # By case, so that one that a sampler repeats counts once; without a label: no records.
        self._records: dict[str, list[dict[str, Any]]] = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Judge a batch of volumes.

        Args:
            inputs: dicts with ``case``, ``patient``, ``labels`` (the set's label values), the
                source's ``shape`` and ``spacing`` along its array axes, the ``axis`` of its slices,
                and, where there is a truth, ``label``: label values (S, H, W).
            outputs: dicts with ``sem_seg``: probabilities (K, S, H, W).

        Raises:
            InputError: outputs of another size or number of regions, or a region none of whose
                labels the set has.
        """
        for item, output in zip(inputs, outputs, strict=True):
            self._check(item, output)
            probabilities = output["sem_seg"].detach().cpu()
            if self._write_predictions:
                self._write(item, probabilities)
            label, records = item.get("label"), []
            if label is not None:
                found = self._paint(probabilities, self._labels)
                records = judge_volume(item, found, np.asarray(label), self._regions)
            self._records[item["case"]] = records

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Return ``{"volume": metrics}`` on the main process and an empty dict on the others.

        Raises:
            InputError: no volume was processed on any rank, or none that has a label.
        """
        parts = comm.all_gather(self._records) if self._distributed else [self._records]
        records = {case: rows for part in parts for case, rows in part.items()}
        unscored = sorted(case for case, rows in records.items() if not rows)
        # Sorted, so that sums do not depend on which rank had which volume.
        rows = [row for case in sorted(records) for row in records[case]]
        if not records:
            raise InputError(
                f"no volume of {self._dataset_name!r} was evaluated: is the set empty?"
            )
        if not rows:
            written = " (their predictions are written)" if self._write_predictions else ""
            raise InputError(
                f"none of the {len(records)} volumes of {self._dataset_name!r} has a label to "
                f"score against{written}"
            )
        if self._distributed and not comm.is_main_process():
            return OrderedDict()
        if unscored:
            logger.warning(
                "%d of %d volumes have no label and are not scored: %s",
                len(unscored),
                len(records),
                first_few(unscored),
            )
        metrics = summarize(rows)
        table = make_table(rows, len(unscored))
        if self._output_dir:
            write_report(self._output_dir, rows, table)
        logger.info(
            "Volume metrics on %s (%d volumes, probability >= %g):\n%s",
            self._dataset_name,
            len(records) - len(unscored),
            self._threshold,
            table,
        )
        return OrderedDict(volume=metrics)

    def _check(self, item: dict[str, Any], output: dict[str, Any]) -> None:
        case = item["case"]
        if "sem_seg" not in output:
            raise InputError("VolumeEvaluator needs a model that returns sem_seg")
        shape = tuple(output["sem_seg"].shape)
        if len(shape) != 4 or shape[0] != len(self._regions):
            raise InputError(
                f"the prediction for {case} is {shape}, not (K, S, H, W) with "
                f"K = {len(self._regions)} ({', '.join(self._regions)})"
            )
        label = item.get("label")
        if label is not None and tuple(label.shape) != shape[1:]:
            raise InputError(
                f"the prediction for {case} is {shape[1:]} (S, H, W), its label "
                f"{tuple(label.shape)}"
            )
        for name, values in self._regions.items():
            if not set(values) & set(item["labels"]):
                raise InputError(
                    f"region {name} is of labels {first_few(values)}, but {self._dataset_name!r} "
                    f"has labels {first_few(item['labels'])}"
                )

    def _write(self, item: dict[str, Any], probabilities: Any) -> None:
        from ..data.nifti import write_label_map  # here: few runs need NIfTI

        path = os.path.join(self._output_dir, "predictions", f"{item['case']}.nii.gz")
        write_label_map(item, self._paint(probabilities, item["labels"]), path)

    def _paint(self, probabilities: Any, labels: Sequence[int]) -> np.ndarray:
        return paint(
            probabilities, self._regions, labels, self._threshold, exclusive=self._exclusive
        )


def judge_volume(
    entry: Mapping[str, Any],
    predicted: np.ndarray,
    label: np.ndarray,
    regions: Mapping[str, Sequence[int]],
) -> list[dict[str, Any]]:
    """Make one record per region of a volume.

    Args:
        entry: ``case``, ``patient``, and the source's ``shape``, ``spacing`` and ``axis``.
        predicted: label values, uint8 (S, H, W).
        label: the true ones, alike; where it is 255 the voxel counts in neither.
        regions: label values by name.
    """
    spacing = stored_order(entry["spacing"], entry["axis"])
    worst = volume_diagonal(entry["shape"], entry["spacing"])
    predicted = np.where(label == IGNORED, 0, predicted)
    records = []
    for name, values in regions.items():
        mask, true = crop_to_foreground(np.isin(predicted, values), np.isin(label, values))
        hd95, assd = surface_distances(mask, true, spacing, worst)
        lesions = count_lesions(mask, true)
        records.append(
            {
                "case": entry["case"],
                "patient": entry["patient"],
                "region": name,
                "dice": dice(mask, true),
                "hd95": hd95,
                "assd": assd,
                "lesion_precision": lesions.precision,
                "lesion_recall": lesions.recall,
                "lesion_f1": lesions.f1,
                "true_lesions": lesions.true,
                "found_lesions": lesions.found,
                "predicted_lesions": lesions.predicted,
                "right_lesions": lesions.right,
                "true_voxels": int(np.count_nonzero(true)),
                "predicted_voxels": int(np.count_nonzero(mask)),
            }
        )
    return records


def stored_order(values: Sequence[float], axis: int) -> list[float]:
    """Put values of the source's array axes in the order S, H, W: the slices' axis comes first."""
    return [values[axis], *(value for k, value in enumerate(values) if k != axis)]


def _plain_regions(regions: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Turn OmegaConf's containers, from a LazyConfig, into plain ones, and check them."""
    plain = {}
    for name, values in regions.items():
        try:
            plain[str(name)] = [int(value) for value in values]
        except (TypeError, ValueError):
            plain[str(name)] = []
        if (
            not plain[str(name)]
            or not 1 <= min(plain[str(name)]) <= max(plain[str(name)]) < IGNORED
        ):
            raise InputError(f"region {name} must be a list of label values 1..254, got {values}")
    if not plain:
        raise InputError("there are no regions to judge")
    return plain
