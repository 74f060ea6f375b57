"""Metrics of whole volumes, per patient, against figures by hand."""

import csv
import json
import math
import re
from importlib.util import find_spec

import nibabel as nib
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from inspire_d2.errors import InputError
from inspire_d2.evaluation import VolumeEvaluator
from inspire_d2.evaluation.volume import stored_order

pytestmark = pytest.mark.skipif(
    find_spec("monai") is None, reason="needs MONAI, of the extra medical"
)

REGIONS = {"WT": [1, 2, 3, 4], "TC": [1, 3, 4]}
SIZE = (4, 6, 6)  # S, H, W
SPACING = [0.5, 2.0, 3.0]  # along the source's axes
DIAGONAL = math.hypot(10 * 0.5, 12 * 2.0, 9 * 3.0)  # of a source of 10 x 12 x 9 voxels
EMPTY = np.zeros(SIZE, bool)


def bar(start: int, stop: int, row: int = 2) -> np.ndarray:
    mask = EMPTY.copy()
    mask[1, row, start:stop] = True
    return mask


def item(case: str, whole: np.ndarray | None, core: np.ndarray | None = None, **keys) -> dict:
    """A test item: label 2 in the whole, label 1 in its core; no label where the whole is None."""
    entry = {
        "case": case,
        "patient": case.partition("/")[0],
        "labels": [1, 2, 4],
        "shape": [10, 12, 9],
        "spacing": SPACING,
        "axis": 2,
    }
    if whole is not None:
        label = 2 * whole.astype(np.uint8)
        if core is not None:
            label[core] = 1
        entry["label"] = label
    return entry | keys


def output(*masks: np.ndarray) -> dict:
    return {"sem_seg": torch.from_numpy(0.4 + 0.2 * np.stack(masks).astype(np.float32))}


def evaluate(*pairs: tuple[dict, dict], regions=REGIONS, **options) -> dict[str, float]:
    evaluator = VolumeEvaluator("brains", regions, distributed=False, **options)
    for one_item, one_output in pairs:
        evaluator.process([one_item], [one_output])
    return evaluator.evaluate()["volume"]


# The whole of 4 voxels is predicted one too far along W; the core is missing in one patient, found
# where there is none in another, and neither there nor found in the third.
THREE = (
    (item("a", bar(0, 4), bar(0, 2)), output(bar(1, 5), EMPTY)),
    (item("b", bar(0, 4)), output(bar(0, 4), bar(0, 1))),
    (item("c", EMPTY), output(EMPTY, EMPTY)),
)


def test_figures_by_hand(tmp_path, caplog):
    with caplog.at_level("INFO"):
        metrics = evaluate(*THREE, output_dir=str(tmp_path))
    # Of the shifted bar all voxels are surface: 0, 0, 0 and one voxel of H's axis, both ways. S is
    # the source's axis 2, H its axis 0, and W its axis 1.
    shifted = 2.0
    hd95 = np.percentile([0, 0, 0, shifted], 95)
    assert metrics == pytest.approx(
        {
            "Dice": ((0.75 + 1 + 1) / 3 + (0 + 0 + 1) / 3) / 2,
            "WT Dice": (0.75 + 1 + 1) / 3,
            "WT Dice_present": (0.75 + 1) / 2,
            "WT HD95": hd95 / 3,
            "WT ASSD": shifted / 4 / 3,
            "WT lesion_precision": 1,
            "WT lesion_recall": 1,
            "WT lesion_F1": 1,
            "WT patients": 3,
            "WT both_empty": 1,
            "WT missed": 0,
            "WT false_alarm": 0,
            "TC Dice": 1 / 3,
            "TC Dice_present": 0,
            "TC HD95": 2 * DIAGONAL / 3,
            "TC ASSD": 2 * DIAGONAL / 3,
            "TC lesion_precision": 1 / 3,
            "TC lesion_recall": 1 / 3,
            "TC lesion_F1": 1 / 3,
            "TC patients": 3,
            "TC both_empty": 1,
            "TC missed": 1,
            "TC false_alarm": 1,
        }
    )
    table = (tmp_path / "volume_table.md").read_text()
    assert table.strip() in caplog.text
    head, _, whole, core, _, notes = table.strip().splitlines()
    assert cells(head)[:6] == ["region", "patients", "both empty", "missed", "false alarm", "Dice"]
    assert cells(whole)[:6] == ["WT", "3", "1", "0", "0", "0.9167"]
    assert cells(core)[:6] == ["TC", "3", "1", "1", "1", "0.3333"]
    assert "Volumes: 3." in notes and "both empty" in notes and "diagonal" in notes


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_files_hold_each_case(tmp_path):
    evaluate(*THREE, output_dir=str(tmp_path / "new"))
    folder = tmp_path / "new"
    assert {path.name for path in folder.iterdir()} == {
        "volume_per_case.json",
        "volume_per_case.csv",
        "volume_table.md",
    }
    rows = json.loads((folder / "volume_per_case.json").read_text())
    assert [(row["case"], row["region"]) for row in rows] == [
        (case, region) for case in "abc" for region in ("WT", "TC")
    ]
    assert rows[0] | {"hd95": 0, "assd": 0} == {
        "case": "a",
        "patient": "a",
        "region": "WT",
        "dice": 0.75,
        "hd95": 0,
        "assd": 0,
        "lesion_precision": 1,
        "lesion_recall": 1,
        "lesion_f1": 1,
        "true_lesions": 1,
        "found_lesions": 1,
        "predicted_lesions": 1,
        "right_lesions": 1,
        "true_voxels": 4,
        "predicted_voxels": 4,
    }
    with open(folder / "volume_per_case.csv", newline="") as file:
        from_csv = list(csv.DictReader(file))
    assert [{key: str(value) for key, value in row.items()} for row in rows] == from_csv


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("direction", [0, 1, 2])
def test_spacing_follows_the_slices_axis(axis, direction):
    """Planes two voxels apart along one of the source's axes, sliced along another."""
    source = np.zeros((2, 5, 6, 7), bool)
    for mask, place in zip(source, (1, 3), strict=True):
        mask[(slice(None),) * direction + (place,)] = True
    true, predicted = np.moveaxis(source, axis + 1, 1)  # slices come first, the rest in order
    metrics = evaluate(
        (item("a", true, shape=[5, 6, 7], axis=axis), output(predicted)), regions={"WT": [2]}
    )
    assert metrics["WT HD95"] == pytest.approx(2 * SPACING[direction])
    assert metrics["WT ASSD"] == pytest.approx(2 * SPACING[direction])
    assert stored_order(SPACING, axis)[0] == SPACING[axis]


def test_patients_count_equally_whatever_their_number_of_volumes():
    good, bad = output(bar(0, 4)), output(bar(0, 4, row=5))
    volumes = [(item(f"a/{n}", bar(0, 4)), good) for n in range(3)]
    metrics = evaluate(*volumes, (item("b/0", bar(0, 4)), bad), regions={"WT": [2]})
    assert metrics["WT Dice"] == metrics["Dice"] == 1 / 2
    assert metrics["WT patients"] == 2
    # A volume without the region does not count for Dice_present.
    metrics = evaluate(*volumes, (item("a/3", EMPTY), good), regions={"WT": [2]})
    assert (metrics["WT Dice"], metrics["WT Dice_present"]) == (3 / 4, 1)
    assert (metrics["WT patients"], metrics["WT false_alarm"]) == (1, 1)


def test_a_region_that_nobody_has_has_no_dice_present(tmp_path):
    metrics = evaluate((item("a", bar(0, 4)), output(bar(0, 4), EMPTY)), output_dir=str(tmp_path))
    assert metrics["TC Dice"] == 1 and metrics["TC both_empty"] == 1
    assert "TC Dice_present" not in metrics
    assert " - " in (tmp_path / "volume_table.md").read_text().splitlines()[3]
    assert all(math.isfinite(value) for value in metrics.values())


def test_threshold_keeps_equal_probabilities_and_drops_lower_ones():
    probabilities = {"sem_seg": torch.from_numpy(0.75 * bar(0, 4)[None].astype(np.float32))}
    options = {"regions": {"WT": [2]}}
    assert evaluate((item("a", bar(0, 4)), probabilities), threshold=0.75, **options)["Dice"] == 1
    assert evaluate((item("a", bar(0, 4)), probabilities), threshold=0.76, **options)["Dice"] == 0


def test_regions_from_a_config_and_labels_as_tensors():
    regions = OmegaConf.create({"WT": [1, 2, 3, 4], "TC": [1, 3, 4]})
    turned = [
        (one | {"label": torch.from_numpy(one["label"])}, {"sem_seg": out["sem_seg"].half()})
        for one, out in THREE
    ]
    assert evaluate(*turned, regions=regions) == evaluate(*THREE)


def test_a_volume_seen_twice_counts_once():
    metrics = evaluate(*THREE, THREE[0], THREE[0])
    assert metrics == evaluate(*THREE)
    assert metrics["WT patients"] == 3


def test_batches_and_order_make_no_difference():
    evaluator = VolumeEvaluator("brains", REGIONS)  # distributed, of one process
    evaluator.process([one for one, _ in THREE[::-1]], [out for _, out in THREE[::-1]])
    assert evaluator.evaluate()["volume"] == evaluate(*THREE)
    evaluator.reset()
    with pytest.raises(InputError, match="no volume of 'brains' was evaluated"):
        evaluator.evaluate()


def test_volumes_without_a_label_are_not_scored(tmp_path, caplog):
    unlabelled = (item("d", None), output(bar(0, 4), EMPTY))
    with caplog.at_level("WARNING"):
        assert evaluate(*THREE, unlabelled, output_dir=str(tmp_path)) == evaluate(*THREE)
    assert "1 of 4 volumes have no label and are not scored: d" in caplog.text
    assert "no label: 1." in (tmp_path / "volume_table.md").read_text()
    with pytest.raises(InputError, match="none of the 1 volumes of 'brains' has a label"):
        evaluate(unlabelled)


def test_predictions_are_written_on_the_source_grid(tmp_path):
    """What an oracle predicts is its label file, whether the set has labels or not."""
    nib = pytest.importorskip("nibabel")
    source = {
        "crop": [[2, 8], [3, 9], [1, 5]],
        "affine": np.diag([*SPACING, 1.0]).tolist(),
        "reference": None,
    }
    whole, core = bar(0, 4), bar(0, 2)
    labelled = (item("a", whole, core, **source), output(whole, core))
    unlabelled = (item("d", None, **source), output(whole, core))
    options = {"output_dir": str(tmp_path), "write_predictions": True}
    assert evaluate(labelled, unlabelled, **options)["Dice"] == 1
    expected = np.zeros((10, 12, 9), np.uint8)
    expected[2:8, 3:9, 1:5] = np.moveaxis(labelled[0]["label"], 0, 2)
    assert expected.any()
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == [
        "a.nii.gz",
        "d.nii.gz",
    ]
    for case in "ad":
        written = nib.load(tmp_path / "predictions" / f"{case}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
        np.testing.assert_array_equal(written.affine, source["affine"])
    with pytest.raises(InputError, match="has a label .*predictions are written"):
        evaluate(unlabelled, **options)


@pytest.mark.parametrize(
    ("one", "out", "message"),
    [
        (item("a", EMPTY), output(EMPTY), "K = 2 (WT, TC)"),
        (item("a", None), output(EMPTY, EMPTY, EMPTY), "prediction for a is (3, 4, 6, 6)"),
        (item("a", EMPTY), {"sem_seg": torch.zeros(2, 6, 6)}, "is (2, 6, 6), not (K, S, H, W)"),
        (item("a", EMPTY), {"sem_seg": torch.zeros(2, 4, 6, 7)}, "label (4, 6, 6)"),
        (item("a", EMPTY), {"instances": None}, "returns sem_seg"),
        (
            item("a", EMPTY, labels=[2]),
            output(EMPTY, EMPTY),
            "region TC is of labels 1, 3, 4, but 'brains' has labels 2",
        ),
    ],
)
def test_wrong_input_is_named(one, out, message):
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate((one, out))


@pytest.mark.parametrize(
    ("regions", "options", "message"),
    [
        ({}, {}, "no regions"),
        ({"WT": []}, {}, "region WT must be a list of label values"),
        ({"WT": 1}, {}, "region WT must be a list of label values"),
        ({"WT": [0, 1]}, {}, "region WT must be a list of label values 1..254"),
        ({"WT": ["tumour"]}, {}, "region WT must be a list of label values"),
        ({"WT": [1]}, {"threshold": 50}, "threshold must be 0..1, got 50"),
        ({"WT": [1]}, {"write_predictions": True}, "give an output_dir"),
        ({"ET": [1], "WT": [1, 2]}, {}, "the region ET ([1]) has no label of its own"),
        ({"a": [1], "b": [2]}, {"exclusive": True, "threshold": 0.4}, "means nothing"),
    ],
)
def test_wrong_options_are_named(regions, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        VolumeEvaluator("brains", regions, **options)


def test_without_monai_the_user_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setattr("inspire_d2.evaluation.volume.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install .*medical"):
        VolumeEvaluator("brains", REGIONS)


def test_what_is_judged_is_what_is_written(tmp_path):
    """A core without its whole: the voxel is both in the label map, so it is in the figures."""
    save_volume(tmp_path / "t1.nii.gz")
    entry = item("a", bar(0, 4), bar(0, 2), crop=[[0, 6], [0, 6], [0, 4]], shape=[6, 6, 4],
                 affine=np.eye(4).tolist(), reference=str(tmp_path / "t1.nii.gz"))  # fmt: skip
    metrics = evaluate(
        (entry, output(bar(2, 4), bar(0, 3))), output_dir=str(tmp_path), write_predictions=True
    )
    written = nib.load(tmp_path / "predictions/a.nii.gz").get_fdata()
    truth = np.moveaxis(entry["label"], 0, 2)
    for region, values in REGIONS.items():
        found, true = np.isin(written, values), np.isin(truth, values)
        expected = 2 * (found & true).sum() / (found.sum() + true.sum())
        assert metrics[f"{region} Dice"] == pytest.approx(expected)
    assert metrics["WT Dice"] == 1
    assert metrics["TC Dice"] == pytest.approx(4 / 5)


def test_voxels_of_255_count_neither_way():
    entry = item("a", bar(0, 4))
    entry["label"][1, 2, 4:6] = 255
    both = evaluate((entry, output(bar(0, 6), EMPTY)))
    assert both["WT Dice"] == 1 and both["WT lesion_precision"] == 1
    part = evaluate((entry, output(bar(2, 6), EMPTY)))
    assert part["WT Dice"] == pytest.approx(2 * 2 / (2 + 4))


def save_volume(path) -> None:
    nib.save(nib.Nifti1Image(np.ones((6, 6, 4), np.float32), np.eye(4)), path)


def test_of_classes_the_most_probable_counts():
    classes = {"a": [1], "b": [2]}
    probabilities = torch.zeros(2, *SIZE)
    probabilities[0, 1, 2, 0:4] = 0.45  # under a half, and more than the background's 0.2
    probabilities[1, 1, 2, 0:4] = 0.35
    metrics = evaluate(
        (item("x", EMPTY, bar(0, 4)), {"sem_seg": probabilities}), regions=classes, exclusive=True
    )
    assert (metrics["a Dice"], metrics["b Dice"]) == (1, 1)
    assert metrics["b both_empty"] == 1
