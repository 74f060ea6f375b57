"""datasets/prepare_mri.py run again: what is done stays, what was stopped goes on."""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspire_d2.data import mri_prepare
from inspire_d2.data.mri import check_mri_dataset
from inspire_d2.errors import InputError

from .mri_helpers import ORIENTATIONS, brain, contents, load, prepare, save, truncate, tumour

TOOL = Path(__file__).resolve().parents[2] / "datasets" / "prepare_mri.py"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="workers are not forked here")


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cases that are read."""
    names: list[str] = []
    read = mri_prepare.read_case

    def noting(case: Any, axis: int, **options: bool) -> Any:
        names.append(case.name)
        return read(case, axis, **options)

    monkeypatch.setattr(mri_prepare, "read_case", noting)
    return names


def test_what_is_done_is_not_done_again(
    brats: Path, prepare_mri: Callable[..., None], worked: list[str]
) -> None:
    arguments = ("--layout", "brats", "--root", brats)
    prepare_mri(*arguments, "--val-ratio", 0.3)
    assert len(worked) == 5
    before = contents(brats / "prepared")
    times = {path: path.stat().st_mtime_ns for path in (brats / "prepared/cases").iterdir()}
    prepare_mri(*arguments, "--val-ratio", 0.3)
    assert len(worked) == 5
    assert contents(brats / "prepared") == before
    assert times == {p: p.stat().st_mtime_ns for p in (brats / "prepared/cases").iterdir()}
    # a source that is changed, arrays that are lacking, and another option
    first, second, third = (path.name for path in sorted(brats.glob("BraTS*"))[:3])
    save(brats / first / f"{first}_t2.nii.gz", brain(99), ORIENTATIONS["LPS"])
    (brats / f"prepared/cases/{second}.label.npy").unlink()
    (brats / f"prepared/cases/{third}.json").write_text("{")
    worked.clear()
    prepare_mri(*arguments, "--val-ratio", 0.3)
    assert worked == [first, second, third]
    after = contents(brats / "prepared")
    changed = {name for name in before if before[name] != after[name]}
    assert {f"cases/{first}.image.npy", f"cases/{first}.json"} <= changed
    assert not any(second in name or third in name for name in changed)
    worked.clear()
    prepare_mri(*arguments, "--val-ratio", 0.5)  # the split alone
    assert not worked
    prepare_mri(*arguments, "--val-ratio", 0.5, "--axis", 1)
    assert len(worked) == 5


def test_a_label_that_comes_later(
    brats: Path, prepare_mri: Callable[..., None], worked: list[str]
) -> None:
    seg = brats / "BraTS-GLI-00002-000/BraTS-GLI-00002-000_seg.nii.gz"
    seg.rename(brats / "elsewhere")
    arguments = ("--layout", "brats", "--root", brats, "--all", "x", "--allow-missing-labels")
    prepare_mri(*arguments)
    entry = load(brats / "prepared/x.json")["cases"][1]
    assert (entry["label"], entry["voxels"]) == (None, {})
    assert not (brats / "prepared/cases/BraTS-GLI-00002-000.label.npy").exists()
    (brats / "elsewhere").rename(seg)
    worked.clear()
    prepare_mri(*arguments)
    assert worked == ["BraTS-GLI-00002-000"]
    assert load(brats / "prepared/x.json")["cases"][1]["label"]


def start(arguments: tuple[object, ...], said: Path) -> multiprocessing.Process:
    """Run the tool as a program of its own, in a fork, which spares the imports."""

    def child() -> None:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w")
        sys.argv = [str(TOOL), *map(str, arguments)]
        runpy.run_path(str(TOOL), run_name="__main__")

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the third case slow, so that a run can be stopped in it."""
    write = np.save

    def save_slowly(file: Any, array: np.ndarray) -> None:
        if "00003" in file.name and "image" in file.name:
            file.write(b"half")
            file.flush()
            time.sleep(2)
            file.seek(0)
        write(file, array)

    monkeypatch.setattr(np, "save", save_slowly)


@linux_only
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on(
    brats: Path, prepare_mri: Callable[..., None], tmp_path: Path, slowly: None, worked: list[str],
    monkeypatch: pytest.MonkeyPatch, jobs: int, sent: int,
) -> None:  # fmt: skip
    arguments = ("--layout", "brats", "--root", brats, "--val-ratio", 0.3)
    cases = brats / "prepared/cases"
    process = start((*arguments, "--jobs", jobs), tmp_path / "said")
    first = [cases / f"BraTS-GLI-0000{number}-000.json" for number in (1, 2)]
    wait_for(lambda: list(cases.glob(".*00003*.part")) and all(f.exists() for f in first))
    os.killpg(process.pid, sent)
    process.join(30)
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert not list((brats / "prepared").glob("*.json"))
    done = {file.stem for file in cases.glob("*.json")}
    assert {"BraTS-GLI-00001-000", "BraTS-GLI-00002-000"} <= done
    if sent == signal.SIGINT:
        assert process.exitcode == 130
        assert said.splitlines()[-1] == "interrupted: the same command goes on from here"
        assert not list(cases.glob(".*.part"))
    monkeypatch.undo()
    read = mri_prepare.read_case

    def noting(case: Any, axis: int, **options: bool) -> Any:
        worked.append(case.name)
        return read(case, axis, **options)

    monkeypatch.setattr(mri_prepare, "read_case", noting)
    prepare_mri(*arguments)
    assert sorted([*done, *worked]) == sorted(path.name for path in brats.glob("BraTS*"))
    assert not list(cases.glob(".*.part"))
    check_mri_dataset("x", str(brats / "prepared/train.json"))


@linux_only
def test_a_worker_that_dies(
    brats: Path, mri_refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mri_prepare, "read_case", lambda *_, **__: os._exit(1))
    said = mri_refused("--layout", "brats", "--root", brats, "--all", "x", "--jobs", 2)
    assert "a worker process died" in said


def test_a_full_disk(
    brats: Path, mri_refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    said = mri_refused("--layout", "brats", "--root", brats, "--all", "x")
    assert "cannot be written: No space left on device; finished cases are kept" in said
    assert not [path for path in (brats / "prepared").rglob("*") if path.is_file()]


def test_an_index_of_other_arrays_is_refused(tmp_path: Path) -> None:
    """One axis gives arrays of the same shape as another: the index must not be taken for them."""
    cube = (9, 9, 9)
    for name in ("x", "y"):
        full = np.random.default_rng(0).integers(1, 900, cube).astype(np.int16)
        save(tmp_path / f"images/{name}.nii.gz", full)
        save(tmp_path / f"labels/{name}.nii.gz", tumour((1,), cube))
    index = prepare(tmp_path, layout="folders", axis=0)
    check_mri_dataset("mine", str(index))
    whole = (tmp_path / "labels/y.nii.gz").read_bytes()
    truncate(tmp_path / "labels/y.nii.gz")
    with pytest.raises(InputError):
        prepare(tmp_path, layout="folders", axis=1)
    with pytest.raises(InputError, match="the arrays of x were made anew since"):
        check_mri_dataset("mine", str(index))
    (tmp_path / "labels/y.nii.gz").write_bytes(whole)
    check_mri_dataset("mine", str(prepare(tmp_path, layout="folders", axis=1)))
    (tmp_path / "prepared/cases/y.json").unlink()
    with pytest.raises(InputError, match="y.json is missing: the arrays of y are not finished"):
        check_mri_dataset("mine", str(index))
