"""What is read from a metrics.json, and what of it is drawn."""

import json

import cv2
import numpy as np
import pytest

from inspire_d2.errors import InputError
from inspire_d2.visualization import plot_curves
from inspire_d2.visualization.curves import draw_curves, read_metrics


@pytest.fixture
def metrics_json(tmp_path):
    """A run that was resumed at iteration 39, was killed while it wrote, and went on."""
    rows = [
        {"iteration": 19, "total_loss": 3.0, "loss_mask": 1.0, "lr": 0.01, "time": 0.2},
        {"iteration": 39, "total_loss": 2.5, "loss_mask": 0.9, "lr": 0.02},
        {"iteration": 59, "total_loss": 9.9, "loss_mask": 0.8, "lr": 0.02},
        {"iteration": 39, "total_loss": 2.0, "rpn/num_pos_anchors": 7.5},
        {"iteration": 39, "bbox/AP": 10.0, "bbox/AP50": 30.0, "bbox/APs": 1.0, "polyp/Dice": 0.5},
    ]
    later = [
        {"iteration": 59, "total_loss": 1.5, "loss_mask": 0.7, "lr": 0.002},
        {"iteration": 59, "bbox/AP": 20.0, "bbox/AP50": 40.0, "polyp/Dice": 0.75},
        {"iteration": 59, "polyp/fp_per_image": 0.25, "bbox/APl": float("nan")},
    ]
    path = tmp_path / "metrics.json"
    lines = [json.dumps(row) for row in rows] + ['{"iteration": 59, "total_l']
    lines += [json.dumps(row) for row in later] + ['{"itera']
    path.write_text("\n".join(lines))
    return path


def test_last_value_of_an_iteration_wins_and_broken_lines_are_skipped(metrics_json, caplog):
    series = read_metrics(metrics_json)
    assert series["total_loss"] == [(19, 3.0), (39, 2.0), (59, 1.5)]
    assert series["loss_mask"] == [(19, 1.0), (39, 0.9), (59, 0.7)]
    assert series["bbox/AP"] == [(39, 10.0), (59, 20.0)]
    assert "bbox/APl" not in series  # NaN is no point
    assert "2 incomplete lines" in caplog.text


def test_panels_show_the_data(metrics_json):
    figure = draw_curves(read_metrics(metrics_json))
    drawn = {
        axes.get_title(): {
            line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
            for line in axes.lines
        }
        for axes in figure.axes
    }
    assert drawn["Losses"] == {
        "total_loss": ([19, 39, 59], [3.0, 2.0, 1.5]),
        "loss_mask": ([19, 39, 59], [1.0, 0.9, 0.7]),
    }
    assert drawn["Learning rate"]["lr"] == ([19, 39, 59], [0.01, 0.02, 0.002])
    assert drawn["Evaluation (%)"] == {
        "bbox/AP": ([39, 59], [10.0, 20.0]),
        "bbox/AP50": ([39, 59], [30.0, 40.0]),
    }
    assert drawn["Evaluation (0 to 1)"] == {"polyp/Dice": ([39, 59], [0.5, 0.75])}


def test_a_low_ap_is_still_in_percent():
    figure = draw_curves({"bbox/AP": [(9, 0.4)]})
    assert [axes.get_title() for axes in figure.axes] == ["Evaluation (%)"]


def test_semantic_and_panoptic_scores_are_in_percent():
    figure = draw_curves(
        {
            "sem_seg/mIoU": [(9, 0.4), (19, 30.0)],
            "sem_seg/IoU-sky": [(9, 0.4), (19, 30.0)],
            "panoptic_seg/PQ": [(9, 0.2), (19, 20.0)],
        }
    )
    (axes,) = figure.axes
    assert axes.get_title() == "Evaluation (%)"
    assert [line.get_label() for line in axes.lines] == ["sem_seg/mIoU", "panoptic_seg/PQ"]


def test_numbers_and_distances_are_no_fractions():
    names = ("volume/Dice", "volume/WT HD95", "volume/WT ASSD", "polyp/fp_per_image")
    (axes,) = draw_curves({name: [(9, 0.4)] for name in names}).axes
    assert [line.get_label() for line in axes.lines] == ["volume/Dice"]


def test_file_is_written_with_ink(metrics_json, tmp_path):
    output = tmp_path / "new" / "curves.png"
    plot_curves(metrics_json, output)
    image = cv2.imread(str(output))
    assert image.shape == (800, 1300, 3)
    for quarter in (image[:400, :650], image[:400, 650:], image[400:, :650], image[400:, 650:]):
        saturation = quarter.max(axis=2).astype(int) - quarter.min(axis=2)
        assert np.count_nonzero(saturation > 60) > 100  # a coloured line in each panel


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.json"):
        read_metrics(tmp_path / "gone.json")
    other = tmp_path / "other.json"
    for text in ("", "not json", '{"name": 1}\n[1, 2]\n3'):
        other.write_text(text)
        with pytest.raises(InputError, match=r"other\.json holds no line"):
            read_metrics(other)
