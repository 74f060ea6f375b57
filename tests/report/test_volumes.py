"""What a page tells of volumes: which were compared, and what a file must hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError
from inspire_d2.evaluation.volume_report import RECORD_KEYS, write_report
from inspire_d2.report.comparison import compare
from inspire_d2.report.render import render
from inspire_d2.report.subject import gather


def row(case: str, dice: float, true_voxels: int = 10) -> dict[str, Any]:
    return dict.fromkeys(RECORD_KEYS, 1.0) | {
        "case": case, "patient": case, "region": "lesion", "dice": dice, "true_voxels": true_voxels
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path):
    """Make the folder of a run that scored these rows."""

    def make(name: str, rows: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        save_config(load_config("configs/mri/atlas_unet_plain.py"), str(folder / "config.yaml"))
        (folder / "evaluation.json").write_text(json.dumps({"volume": {"Dice": 0.5}}))
        (folder / "volume_per_case.json").write_text(json.dumps(rows))
        return folder

    return make


def page_of(ours: Path, theirs: Path) -> str:
    return render(compare(*(gather(one, may_predict=False) for one in (ours, theirs))))


def test_cases_that_are_not_compared_are_named(run) -> None:
    ours = run("ours", [row("a", 0.9), row("b", 0.1), row("c", 0.2)])
    theirs = run("theirs", [row("a", 0.5), row("b", 0.8, true_voxels=11), row("d", 0.9)])
    page = page_of(ours, theirs)
    assert "Compared on 1 cases." in page
    assert "whose truth differs (3): b, c, d." in page
    assert "+0.400 to +0.400" not in page  # no interval of one case
    assert "not scored on the same set" in page  # of the table of all figures
    same = page_of(ours, run("same", [row("a", 0.5), row("b", 0.8), row("c", 0.9)]))
    assert "Compared on" not in same and " to " in same
    assert "not scored on the same set" not in same


def test_patients_count_once_however_many_volumes_they_have(run) -> None:
    """Ours leads in the three volumes of one patient, and is behind in two patients."""
    volumes = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b", "b"), ("c", "c")]
    ours, theirs = (
        [
            row(case, dice) | {"patient": patient}
            for (case, patient), dice in zip(volumes, all_dice, strict=True)
        ]
        for all_dice in ((0.8, 0.8, 0.8, 0.2, 0.2), (0.7, 0.7, 0.7, 0.3, 0.3))
    )
    page = page_of(run("ours", ours), run("theirs", theirs))
    assert "-0.033" in page and "+0.020" not in page  # (0.1 - 0.1 - 0.1) / 3, not (0.3 - 0.2) / 5
    assert "bootstrap over patients" in page


@pytest.mark.parametrize("rows", [[{"case": "a", "dice": 0.5}], {"a": 1}, [1, 2]])
def test_rows_of_another_kind_are_refused(run, rows: Any) -> None:
    with pytest.raises(InputError, match="volume_per_case.json is not what VolumeEvaluator writes"):
        gather(run("ours", rows), may_predict=False)


def test_a_report_has_the_keys_that_are_asked_for(tmp_path: Path) -> None:
    write_report(str(tmp_path), [row("a", 0.5)], "table")
    (read,) = json.loads((tmp_path / "volume_per_case.json").read_text())
    assert read.keys() >= RECORD_KEYS
