"""The benchmark of scoring: its set, its table, and that it tells libraries that disagree."""

import json
import sys

import numpy as np
import pytest

from tools import benchmark
from tools.cost import scoring
from tools.cost.scoring import ScoringCosts, scoring_tables
from tools.cost.scoring_set import ScoringSet, make_set


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    """Any size is 6 images of 4 objects."""
    monkeypatch.setattr(benchmark, "ScoringSet", lambda *_: ScoringSet(6, 4))


def test_a_set_is_seeded_and_worth_scoring():
    truth, results = make_set(ScoringSet(40, 20, seed=1))
    again, results_again = make_set(ScoringSet(40, 20, seed=1))
    assert truth.dataset == again.dataset and results == results_again
    assert results != make_set(ScoringSet(40, 20, seed=2))[1]
    assert len(truth.anns) == 800 and len(truth.imgs) == 40 and len(truth.cats) == 80
    # 0.9 found, 0.3 made up; the seed is fixed
    assert len(results) == pytest.approx(1.2 * 800, rel=0.05)
    areas = np.array([one["area"] for one in truth.anns.values()])
    for low, high in ((0, 32**2), (32**2, 96**2), (96**2, np.inf)):
        assert ((areas > low) & (areas < high)).mean() > 0.1
    for one in truth.anns.values():
        x, y, w, h = one["bbox"]
        assert x >= 0 and y >= 0 and x + w <= 640 and y + h <= 480
        # an ellipse fills pi / 4 of its box
        assert one["area"] / (w * h) == pytest.approx(np.pi / 4, abs=0.12)
    stats = scoring.LIBRARIES["pycocotools"](truth, results, "segm")
    assert 0.05 < stats[0] < 0.9 and min(stats) > 0


def test_a_run_prints_and_writes_a_table(tmp_path, capsys, monkeypatch):
    for module in ("faster_coco_eval", "detectron2.evaluation.fast_eval_api"):
        monkeypatch.setitem(sys.modules, module, None)
    benchmark.main(["--scoring", "--quick", "--rounds", "2", "--output", str(tmp_path / "new")])
    printed = capsys.readouterr().out
    table = (tmp_path / "new" / "scoring.md").read_text()
    saved = json.loads((tmp_path / "new" / "scoring.json").read_text())
    for text in (printed, table):
        assert "### Scoring 6 images x 4 objects, 80 categories, " in text
        assert "detections (rounds: 2)" in text
        assert "| pycocotools | " in text and "| hotcoco | " in text
        assert "Left out: faster-coco-eval (ModuleNotFoundError: " in text
        assert "Left out: Detectron2's COCOeval_opt (" in text
    assert saved["size"] == {"images": 6, "objects": 4, "seed": 0}
    assert saved["peak_mb"].keys() == {"pycocotools", "hotcoco"}
    for task in ("bbox", "segm"):
        assert {k: len(v) for k, v in saved["seconds"][task].items()} == {
            "pycocotools": 2,
            "hotcoco": 2,
        }
        numbers = saved["numbers"][task]
        assert len(numbers["hotcoco"]) == 12
        np.testing.assert_allclose(numbers["hotcoco"], numbers["pycocotools"], atol=1e-6)


def test_a_library_of_other_numbers_is_told(tmp_path, capsys, monkeypatch):
    right = scoring.LIBRARIES["pycocotools"]

    def wrong(*arguments):
        stats = np.array(right(*arguments))
        stats[11] += 2e-4
        return stats

    monkeypatch.setattr(scoring, "LIBRARIES", {"pycocotools": right, "wrong": wrong})
    monkeypatch.setattr(scoring, "measure_in_child", lambda *_, **__: 3e6)
    with pytest.raises(SystemExit) as error:
        benchmark.main(["--scoring", "--rounds", "1", "--output", str(tmp_path)])
    assert error.value.code == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "error: other numbers: wrong"
    assert "| 2e-04 | 3 |" in captured.out


def test_ctrl_c_writes_what_there_is(tmp_path, capsys, monkeypatch):
    def stop(steps, *args):
        yield 0, "pycocotools", 0.5
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "alternate", stop)
    with pytest.raises(SystemExit) as error:
        benchmark.main(["--scoring", "--output", str(tmp_path)])
    assert error.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted; ")
    saved = json.loads((tmp_path / "scoring.json").read_text())
    assert saved["seconds"]["bbox"]["pycocotools"] == [0.5]


def test_ratios_are_paired_by_round():
    costs = ScoringCosts({"cpu": "one"}, ScoringSet(500, 20))
    # A machine that slows down threefold in the second round: the ratio stays.
    costs.seconds = {"bbox": {"pycocotools": [2.0, 6.0, 2.0], "hotcoco": [0.1, 0.3, 0.1]}}
    costs.numbers = {"bbox": {"pycocotools": [0.5] * 12, "hotcoco": [0.5] * 11 + [float("nan")]}}
    rows = scoring_tables(costs).splitlines()
    assert "| pycocotools | 2 | 1.0 (1.0-1.0) | - | - | 0e+00 | - |" in rows
    assert "| hotcoco | 0.1 | 20.0 (20.0-20.0) | - | - | nan | - |" in rows
    assert costs.disagreeing() == ["hotcoco"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scaling"], "--scaling and --scoring exclude each other"),
        (["--sizes", "64"], "--sizes has no meaning with --scoring"),
        (["--channels-last"], "--channels-last has no meaning with --scoring"),
        (["--quick", "--rounds", "0"], "--rounds must be 1 or more, not 0"),
    ],
)
def test_wrong_input_is_one_sentence(words, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as error:
        benchmark.main(["--scoring", *words, "--output", str(tmp_path / "none")])
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1 and not (tmp_path / "none").exists()
