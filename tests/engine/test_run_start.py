"""A run neither writes over another nor begins anew where it was to go on."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from inspire_d2.engine.run_start import check_output_dir, check_resume
from inspire_d2.errors import InputError


def test_checkpoints_are_not_written_over(tmp_path: Path) -> None:
    check_output_dir(str(tmp_path / "new"), resume=False)
    (tmp_path / "weights.pth").touch()
    check_output_dir(str(tmp_path), resume=False)
    for name in ("model_0000004.pth", "model_final.pth", "last_checkpoint"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match="holds the checkpoints of a run: pass --resume"):
            check_output_dir(str(tmp_path), resume=False)
        check_output_dir(str(tmp_path), resume=True)
        (tmp_path / name).unlink()


def config(output_dir: Path) -> DictConfig:
    return OmegaConf.create({"train": {"output_dir": str(output_dir)}})


def test_a_run_that_was_moved_is_not_begun_anew(tmp_path: Path) -> None:
    moved, before = tmp_path / "moved", tmp_path / "before"
    moved.mkdir()
    file = str(moved / "config.yaml")
    check_resume(config(before), file, [])  # nothing to go on with anywhere
    (moved / "model_0000004.pth").touch()
    with pytest.raises(InputError, match=f"{before}, the .*: add train.output_dir={moved} to go"):
        check_resume(config(before), file, ["train.max_iter=9"])
    check_resume(config(moved), file, [])
    # what Slurm starts again, which may have been stopped before its first checkpoint
    check_resume(config(before), file, [f"train.output_dir={before}"])
    check_resume(config(before), file, [f"train={{output_dir: '{before}'}}"])
    before.mkdir()
    (before / "model_0000009.pth").touch()
    check_resume(config(before), file, [])
