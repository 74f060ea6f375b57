"""The cost benchmark: its arithmetic, its order, its workloads and what it writes."""

import importlib.util
import json
import math

import cv2
import pytest
import torch
from detectron2.utils.events import EventStorage

from tools import benchmark
from tools.cost import runner
from tools.cost.alternate import alternate
from tools.cost.arithmetic import growth_exponent, paired_ratios, spread
from tools.cost.memory import ChildError, measure_peaks
from tools.cost.results import Measurement, Results
from tools.cost.setting import MODES, Setting
from tools.cost.subjects import BASELINE, DEFAULT, QUICK, SUBJECTS, Subject
from tools.cost.tables import results_tables
from tools.cost.workload import Workload


def tiny(scope, **changes):
    return Setting(scope, **{"height": 64, "width": 64, "batch": 1} | changes)


def test_spread_is_the_quartiles():
    found = spread([5.0, 1.0, 4.0, 2.0, 3.0])
    assert found == (2.0, 3.0, 4.0) and found.width == 2.0
    assert spread([1.0, 2.0]) == (1.25, 1.5, 1.75)
    assert spread([7.0]) == (7.0, 7.0, 7.0) and spread([7.0]).width == 0


def test_ratios_are_paired_by_round():
    # A machine that slows down threefold in the second round: the ratio stays.
    assert paired_ratios([2.0, 6.0, 2.0], [1.0, 3.0, 1.0]) == [2.0, 2.0, 2.0]
    # Interrupted before the third round reached the first of the two.
    assert paired_ratios([2.0, 3.0], [1.0, 2.0, 4.0]) == [2.0, 1.5]


@pytest.mark.parametrize("power", [1.0, 0.5, 2.0])
def test_the_exponent_of_a_power_is_that_power(power):
    pixels = [side**2 for side in (256, 384, 512)]
    assert math.isclose(growth_exponent(pixels, [3e-6 * p**power for p in pixels]), power)


def test_the_exponent_fits_by_least_squares_of_logarithms():
    # log2: (0, 0), (1, 2), (2, 1) has the slope 1/2.
    assert math.isclose(growth_exponent([1, 2, 4], [1, 4, 2]), 0.5)


def test_subjects_alternate_and_only_their_steps_are_timed():
    now, order = [0.0], []

    def step(name, seconds):
        def run():
            order.append(name)
            now[0] += seconds

        return run

    def synchronize():
        order.append("|")

    steps = {"a": step("a", 1.0), "b": step("b", 10.0)}
    timed = list(
        alternate(steps, rounds=2, warmup=1, synchronize=synchronize, clock=lambda: now[0])
    )
    assert "".join(order) == "|a||b|" * 3
    assert timed == [(i, name, t) for i in (-1, 0, 1) for name, t in (("a", 1.0), ("b", 10.0))]


def test_the_lists_of_subjects_hold_what_is_to_be_compared():
    assert set(QUICK) <= set(SUBJECTS) and set(DEFAULT) <= set(SUBJECTS)
    for names in (QUICK, DEFAULT):
        assert names[0] == BASELINE and "inspire2-flow-checkpoint" in names


def test_every_subject_builds_and_has_fpns_outputs():
    workload = Workload(tiny("backbone", width=96))
    models = {
        name: workload.build(subject)
        for name, subject in SUBJECTS.items()
        if not subject.obstacle("backbone")
    }
    shapes = {}
    for name, model in models.items():
        assert model.bottom_up is workload.bottom_up
        with torch.no_grad():
            outputs = model.eval()(workload.inputs)
        assert all(x.isfinite().all() for x in outputs.values())
        shapes[name] = {level: tuple(x.shape) for level, x in outputs.items()}
    assert shapes[BASELINE]["p2"] == (1, 256, 16, 24) and list(shapes[BASELINE])[-1] == "p6"
    assert all(shape == shapes[BASELINE] for shape in shapes.values())


def test_why_a_subject_is_left_out():
    assert "stages" in SUBJECTS["inspire2-flow"].obstacle("pyramid")
    assert SUBJECTS["inspire2-flow"].obstacle("backbone") == ""
    assert SUBJECTS["inspire1-flow"].obstacle("pyramid") == ""
    missing = importlib.util.find_spec("feneck") is None
    assert ("pip install" in SUBJECTS["pafpn"].obstacle("backbone")) == missing


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"channels_last": True}])
def test_a_training_step_leaves_no_gradients(changes):
    workload = Workload(tiny("pyramid", **changes))
    model = workload.build(SUBJECTS["inspire1-flow"])
    reached = []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: reached.append(p.grad is not None))
    workload.step(model, "train")()
    assert reached and all(reached)
    assert all(p.grad is None for p in [*model.parameters(), *workload.inputs.values()])
    reached.clear()
    workload.step(model, "forward")()
    assert not reached and not model.training


def test_feature_maps_have_a_padded_images_shapes():
    maps = Workload(tiny("pyramid", height=80, width=133, batch=2)).inputs
    assert [tuple(x.shape) for x in maps.values()] == [
        (2, 256, 24, 40),
        (2, 512, 12, 20),
        (2, 1024, 6, 10),
        (2, 2048, 3, 5),
    ]
    assert [x.requires_grad for x in maps.values()] == [False, True, True, True]


def test_detectors_do_the_same_work():
    workload = Workload(tiny("detector", height=128, width=160))
    work = []
    for name in (BASELINE, "released"):
        model = workload.build(SUBJECTS[name])
        with torch.no_grad():
            detections = model.eval()(workload.inputs)[0]["instances"]
        assert len(detections) == 100 and detections.pred_masks.shape[1:] == (128, 160)
        with EventStorage() as storage, torch.no_grad():
            losses = model.train()(workload.inputs)
            counts = {
                key: storage.latest()[f"roi_head/num_{key}_samples"][0] for key in ("fg", "bg")
            }
        assert counts == {"fg": 128, "bg": 384}
        assert all(loss.isfinite() for loss in losses.values())
        work.append(losses["loss_rpn_cls"])
    assert work[0] == work[1]  # the RPN sees other features and proposes the same


def test_peaks_are_measured_in_a_process_of_its_own():
    small = measure_peaks(tiny("pyramid"), BASELINE, threads=1)
    large = measure_peaks(tiny("pyramid", height=256, width=256), BASELINE, threads=1)
    # 3.3 million weights, then 15 times the pixels: res2..res5 alone are 0.5 and 7.9 MB.
    assert small.keys() == MODES.keys() and min(small.values()) > 13
    assert large["forward"] - small["forward"] > 8 and large["train"] - small["train"] > 8
    with pytest.raises(ChildError, match="KeyError: 'no-subject'"):
        measure_peaks(tiny("pyramid"), "no-subject", threads=1)


def test_a_quick_run_writes_its_files(tmp_path, capsys):
    benchmark.main(
        ["--quick", "--sizes", "64", "--rounds", "1", "--modes", "train", "--scopes", "pyramid",
         "--subjects", "fpn", "inspire2-flow", "released", "--output", str(tmp_path / "a" / "b")]
    )  # fmt: skip
    printed, told = capsys.readouterr()
    assert told.splitlines()[-1].endswith("holds results.json, table.md, cost.png")
    table = (tmp_path / "a" / "b" / "table.md").read_text()
    saved = json.loads((tmp_path / "a" / "b" / "results.json").read_text())
    for text in (printed, table):
        assert "### pyramid alone, 64x64, batch 1, cpu, fp32: training step (rounds: 1)" in text
        assert "| fpn | " in text and "| 1.00 | 0.00 |" in text
        assert "Left out of pyramid alone: inspire2-flow (runs the bottom-up's stages" in text
    (found,) = saved["measurements"]
    assert (found["scope"], found["mode"], found["unit"]) == ("pyramid", "train", "s")
    assert {name: len(values) for name, values in found["values"].items()} == {
        "fpn": 1,
        "released": 1,
    }
    assert saved["environment"]["torch"] == torch.__version__ and saved["environment"]["cpu"]
    assert cv2.imread(str(tmp_path / "a" / "b" / "cost.png")).shape[0] > 100


def test_an_interrupted_run_writes_what_it_has(tmp_path, capsys, monkeypatch):
    def interrupted(steps, *args, **kwargs):
        yield 0, "fpn", 0.25
        yield 0, "released", 0.5
        yield 1, "fpn", 0.25
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "alternate", interrupted)
    with pytest.raises(SystemExit) as error:
        benchmark.main(
            ["--sizes", "64", "--scopes", "pyramid", "--subjects", "fpn", "released",
             "--output", str(tmp_path)]
        )  # fmt: skip
    assert error.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted; ")
    (found,) = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert found["values"] == {"fpn": [0.25, 0.25], "released": [0.5]}
    assert "| released | 500 | 0 | 2.00 | 0.00 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "cost.png").is_file()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("out of\nmemory")])
def test_a_run_that_fails_writes_what_it_has(error, tmp_path, capsys, monkeypatch):
    def failing(steps, *args, **kwargs):
        yield 0, "released", 0.5
        raise error

    (tmp_path / "cost.png").touch()  # of another run: without FPN there is none
    monkeypatch.setattr(runner, "alternate", failing)
    with pytest.raises(SystemExit) as ended:
        benchmark.main(
            ["--sizes", "64", "--scopes", "pyramid", "--subjects", "released",
             "--output", str(tmp_path)]
        )  # fmt: skip
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: measuring failed ({type(error).__name__}: ")
    assert last.endswith(f"{tmp_path} holds what was measured.")
    (found,) = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert found["values"] == {"released": [0.5]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "table.md"]


def test_a_subject_that_fails_is_left_out(monkeypatch):
    def fail(**_):
        raise_in_step = torch.nn.Module()
        raise_in_step.forward = lambda x: (_ for _ in ()).throw(RuntimeError("no room\nat all"))
        return raise_in_step

    monkeypatch.setitem(SUBJECTS, "failing", Subject("failing", fail))
    results = Results({}, {})
    (found,) = runner.measure_time(tiny("pyramid"), ["forward"], ["fpn", "failing"], 1, 1, results)
    assert list(found.values) == ["fpn"]
    ((scope, name, reason),) = results.left_out
    assert (scope, name) == ("pyramid", "failing")
    assert reason.endswith("batch 1, cpu, fp32: RuntimeError: no room")


def test_growth_is_fitted_over_three_sizes_or_more():
    results = Results({"cpu": "one"}, {})
    for side in (256, 512, 1024):
        values = {"fpn": [1e-6 * side**2] * 2, "released": [1e-9 * side**3] * 2, "stopped": []}
        setting = Setting("backbone", side, side, 1)
        results.measurements.append(Measurement(setting, "train", "time", values))
    results.measurements.append(Measurement(setting, "forward", "time", values))
    ((key, exponents),) = results.exponents().items()
    assert key == (Setting("backbone", 0, 0, 1), "train")
    assert list(exponents) == ["fpn", "released"]
    assert math.isclose(exponents["fpn"], 1) and math.isclose(exponents["released"], 1.5)
    assert "| released | 1.50 |" in results_tables(results)


def test_growth_is_fitted_for_each_setting():
    results = Results({"cpu": "one"}, {})
    for power, precision, sides in ((1, "fp32", (256, 512, 1024)), (2, "bf16", (256, 512, 768))):
        for side in sides:
            setting = Setting("backbone", side, side, 1, precision=precision)
            values = {"fpn": [1e-9 * side ** (2 * power)]}
            results.measurements.append(Measurement(setting, "train", "time", values))
    single, half = results.exponents().values()
    assert math.isclose(single["fpn"], 1) and math.isclose(half["fpn"], 2)
    text = results_tables(results)
    assert "### ResNet-50 + pyramid, batch 1, cpu, bf16: growth" in text


def test_a_profile_names_the_operations(capsys):
    benchmark.main(["--profile", "inspire1-flow", "--scopes", "pyramid", "--sizes", "64"])
    printed = capsys.readouterr().out
    assert "Self CPU" in printed and "convolution_backward" in printed
