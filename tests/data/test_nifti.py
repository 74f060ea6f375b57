"""What is predicted comes back as NIfTI on the source's own grid, voxel by voxel."""

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from inspire_d2.data.mri import check_mri_dataset, mri_dataset
from inspire_d2.data.mri_mapper import MriMapper
from inspire_d2.data.nifti import write_label_map
from inspire_d2.data.regions import paint
from inspire_d2.errors import InputError

from .mri_helpers import ORIENTATIONS, expected, prepare, save, save_brats

BRATS = {"WT": [1, 2, 3, 4], "TC": [1, 3, 4], "ET": [3, 4]}


def oracle(label: torch.Tensor, regions: dict[str, list[int]]) -> torch.Tensor:
    """Return the probabilities (K, S, H, W) of a model that is always right."""
    member = [torch.isin(label, torch.tensor(values)) for values in regions.values()]
    return torch.stack(member).float()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_round_trip(tmp_path: Path, orientation: str, axis: int) -> None:
    values = (1, 2, 3) if axis == 1 else (1, 2, 4)
    files = save_brats(tmp_path, "case", values, ORIENTATIONS[orientation])
    (item,) = mri_dataset("mine", str(prepare(tmp_path, axis=axis)))
    mapped = MriMapper(is_train=False)(item)
    label_map = paint(oracle(mapped["label"], BRATS), BRATS, item["labels"])
    write_label_map(item, label_map, tmp_path / "predictions/case.nii.gz")
    written, truth = nib.load(tmp_path / "predictions/case.nii.gz"), nib.load(files["seg"])
    np.testing.assert_array_equal(written.get_fdata(), truth.get_fdata())
    np.testing.assert_array_equal(written.affine, truth.affine)
    assert written.header.get_zooms() == truth.header.get_zooms()
    assert written.get_data_dtype() == np.uint8
    assert (written.dataobj.slope, written.dataobj.inter) == (1, 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(9, 8, 7), (9, 8, 1)])
def test_round_trip_of_one_channel(tmp_path: Path, shape: tuple[int, ...], axis: int) -> None:
    data = np.random.default_rng(0).integers(1, 900, shape).astype(np.int16)
    save(tmp_path / "images/x.nii.gz", data)
    label = save(tmp_path / "labels/x.nii.gz", (data > 500).astype(np.uint8))
    index = str(prepare(tmp_path, layout="folders", axis=axis))
    check_mri_dataset("mine", index)
    (item,) = mri_dataset("mine", index)
    write_label_map(item, np.load(item["label"]), tmp_path / "out.nii.gz")
    written = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(written.get_fdata(), nib.load(label).get_fdata())
    order = [axis, *(other for other in range(3) if other != axis)]
    stored = np.load(item["image"])[:, 0]
    np.testing.assert_allclose(stored, expected(data.astype(float)).transpose(order), atol=2e-3)


@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (1, 4), (3, 3)])
def test_header_of_the_reference(tmp_path: Path, codes: tuple[int, int]) -> None:
    files = save_brats(tmp_path, "case", affine=ORIENTATIONS["oblique"])
    source = nib.load(files["t1"])
    data = np.asarray(source.dataobj)
    source.header.set_qform(ORIENTATIONS["oblique"], codes[0])
    source.header.set_sform(ORIENTATIONS["oblique"], codes[1])
    source.header["descrip"] = b"a scanner"
    source.header["cal_max"] = 900
    source.header["scl_slope"] = 2  # of the image's values, not of labels
    source.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept"))
    nib.save(nib.Nifti1Image(data, source.header.get_best_affine(), source.header), files["t1"])
    (item,) = mri_dataset("mine", str(prepare(tmp_path)))
    label = np.load(item["label"])
    write_label_map(item, label, tmp_path / "out.nii.gz")
    written, source = nib.load(tmp_path / "out.nii.gz"), nib.load(files["t1"])
    for key in ("qform_code", "sform_code", "descrip", "xyzt_units", "pixdim", "quatern_b",
                "qoffset_x", "srow_x", "srow_y", "srow_z", "dim"):  # fmt: skip
        np.testing.assert_array_equal(written.header[key], source.header[key], key)
    assert tuple(int(written.header[key]) for key in ("qform_code", "sform_code")) == codes
    assert written.header["cal_max"] == 0
    np.testing.assert_array_equal(written.get_fdata(), nib.load(files["seg"]).get_fdata())


def test_nifti_2_and_unpacked(tmp_path: Path) -> None:
    files = save_brats(tmp_path, "case")
    image = nib.load(files["t1"])
    nib.save(nib.Nifti2Image(np.asarray(image.dataobj), image.affine), files["t1"])
    (item,) = mri_dataset("mine", str(prepare(tmp_path)))
    write_label_map(item, np.load(item["label"]), tmp_path / "out.nii")
    written = nib.load(tmp_path / "out.nii")
    assert type(written) is nib.Nifti2Image
    np.testing.assert_array_equal(written.get_fdata(), nib.load(files["seg"]).get_fdata())


def test_same_bytes_each_time(tmp_path: Path) -> None:
    save_brats(tmp_path, "case")
    (item,) = mri_dataset("mine", str(prepare(tmp_path)))
    for name in ("a", "b"):
        write_label_map(item, np.load(item["label"]), tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_without_the_reference(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = save_brats(tmp_path, "case", affine=ORIENTATIONS["LPS"])
    (item,) = mri_dataset("mine", str(prepare(tmp_path)))
    truth = nib.load(files["seg"])
    label = np.load(item["label"])
    files["t1"].unlink()
    with caplog.at_level(logging.WARNING):
        write_label_map(item, label, tmp_path / "out.nii.gz")
    assert f"the source image {files['t1']} cannot be used" in caplog.text
    written = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(written.affine, truth.affine)
    np.testing.assert_allclose(written.header.get_zooms(), truth.header.get_zooms())
    np.testing.assert_array_equal(written.get_fdata(), truth.get_fdata())
    caplog.clear()
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3)), np.eye(4)), files["t1"])
    with caplog.at_level(logging.WARNING):
        write_label_map(item, label, tmp_path / "out.nii.gz")
    assert "its shape is (3, 3, 3)" in caplog.text
    caplog.clear()
    write_label_map({**item, "reference": None}, label, tmp_path / "out.nii.gz")
    assert not caplog.text


def test_wrong_use(tmp_path: Path) -> None:
    save_brats(tmp_path, "case")
    (item,) = mri_dataset("mine", str(prepare(tmp_path)))
    label = np.load(item["label"])
    with pytest.raises(InputError, match="does not end with"):
        write_label_map(item, label, tmp_path / "out.png")
    with pytest.raises(InputError, match="the label map of case is"):
        write_label_map(item, label[1:], tmp_path / "out.nii.gz")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_label_map(item, label, tmp_path / "file/out.nii.gz")
    assert not [path for path in tmp_path.rglob("*") if "out" in path.name]
    assert json.loads((tmp_path / "prepared/all.json").read_text())["labels"] == [1, 2, 4]
