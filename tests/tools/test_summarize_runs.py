"""tools/summarize_runs.py: the table of runs."""

import json
from pathlib import Path

import pytest

from inspire_d2.engine.config import load_config, save_config
from tools.summarize_runs import main

CONFIG = str(Path(__file__).resolve().parents[2] / "configs/polyp/mask_rcnn_r18_fpn.py")
Capture = pytest.CaptureFixture[str]


def write_run(folder: Path, scores: dict, memory: tuple[float, ...] = (), done: int = 1000) -> Path:
    folder.mkdir(parents=True)
    save_config(load_config(CONFIG, ["train.max_iter=1000"]), str(folder / "config.yaml"))
    lines = [{"iteration": done - 21, "time": 1.0}, {"iteration": done - 1, "time": 1.0}]
    lines += [{"iteration": done - 1, "memory_gb": value} for value in memory]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "evaluation.json").write_text(json.dumps(scores))
    return folder


def rows_of(capsys: Capture) -> list[dict[str, str]]:
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in capsys.readouterr().out.splitlines()
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_summary_tells_how_far_a_run_got(tmp_path: Path, capsys: Capture) -> None:
    runs = [write_run(tmp_path / str(done), {"polyp": {"Dice": 0.5}}, done=done)
            for done in (500, 1000)]  # fmt: skip
    main([str(run) for run in runs])
    half, whole = rows_of(capsys)
    assert half["iterations x images"] == "500 of 1000 x 4"
    assert whole["iterations x images"] == "1000 x 4"


def test_every_kind_of_run_has_its_score(tmp_path: Path, capsys: Capture) -> None:
    scores = {"volume": {"Dice": 0.75}, "sem_seg": {"mIoU": 41.25}, "panoptic_seg": {"PQ": 33.5}}
    runs = [write_run(tmp_path / task, {task: one}) for task, one in scores.items()]
    main([str(run) for run in runs])
    volume, semantic, panoptic = rows_of(capsys)
    assert (volume["volume Dice"], volume["mIoU"], volume["PQ"]) == ("0.750", "-", "-")
    assert semantic["mIoU"] == "41.2" and panoptic["PQ"] == "33.5"
    assert "box AP" not in volume and "peak memory, GB" not in volume  # nobody has any


def test_peak_memory_is_the_highest(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", {"polyp": {"Dice": 0.5}}, (1.0, 9.0, 2.0, 2.0, 2.0))
    main([str(run)])
    assert rows_of(capsys)[0]["peak memory, GB"] == "9.0"


def test_names_tell_runs_apart(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("plain/seed0", "steps1/seed0", "a|b", "c\udce9")]
    runs = [write_run(folder, {"polyp": {"Dice": 0.5}}) for folder in folders]
    main([str(run) for run in runs])
    assert [row["run"] for row in rows_of(capsys)] == ["plain/seed0", "steps1/seed0", "a\\|b", "c?"]
    monkeypatch.chdir(runs[0])
    main(["."])
    assert rows_of(capsys)[0]["run"] == "seed0"


def test_scores_of_eval_only_are_enough(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", {"polyp": {"Dice": 0.5}})
    (run / "evaluation").mkdir()
    (run / "evaluation.json").rename(run / "evaluation" / "evaluation.json")
    main([str(run)])
    said = capsys.readouterr()
    assert "0.500" in said.out and said.err.startswith("note: The scores are those of --eval-only")


def test_no_finished_run(tmp_path: Path, capsys: Capture) -> None:
    bare = write_run(tmp_path / "run", {})
    (bare / "evaluation.json").unlink()
    for folder, message in ((tmp_path, "holds no config.yaml"), (bare, "not a finished run")):
        with pytest.raises(SystemExit) as ended:
            main([str(folder)])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
