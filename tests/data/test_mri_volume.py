"""One volume is read as its files say, and each kind of broken file is named."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inspire_d2.data.mri_volume import load_case
from inspire_d2.errors import InputError

from .mri_helpers import (
    CHANNELS,
    ORIENTATIONS,
    SHAPE,
    affine_of,
    brain,
    expected,
    only_case,
    save,
    save_brats,
    truncate,
    tumour,
)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_volume_of_any_orientation(tmp_path: Path, orientation: str, axis: int) -> None:
    affine = ORIENTATIONS[orientation]
    files = save_brats(tmp_path, "case", affine=affine)
    prepared = load_case(only_case("brats", tmp_path), axis)
    label = nib.load(files["seg"]).get_fdata()
    images = np.stack([nib.load(files[channel]).get_fdata() for channel in CHANNELS])
    window = tuple(
        slice(where.min(), where.max() + 1)
        for where in np.nonzero((images != 0).any(axis=0) | (label != 0))
    )
    entry = prepared.entry
    assert entry["crop"] == [[part.start, part.stop] for part in window]
    assert entry["shape"] == list(SHAPE)
    assert entry["axis"] == axis
    assert (entry["case"], entry["patient"]) == ("case", "case")
    assert entry["reference"] == str(files["t1"])
    np.testing.assert_allclose(entry["affine"], affine, atol=1e-6)
    np.testing.assert_allclose(
        entry["spacing"], np.sqrt((affine[:3, :3] ** 2).sum(axis=0)), rtol=1e-6
    )
    order = [axis, *(other for other in range(3) if other != axis)]
    for number, image in enumerate(images):
        wanted = expected(image)[window].transpose(order)
        np.testing.assert_allclose(prepared.image[:, number], wanted, atol=2e-3)
    np.testing.assert_array_equal(prepared.label, label[window].transpose(order))
    assert prepared.image.dtype == np.float16
    assert prepared.label.dtype == np.uint8
    counts = {
        str(value): (prepared.label == value).sum(axis=(1, 2)).tolist() for value in (1, 2, 4)
    }
    assert entry["voxels"] == counts


def test_labels_outside_the_brain_are_kept(tmp_path: Path) -> None:
    files = save_brats(tmp_path)
    label = tumour()
    label[0, 10, 0] = 2
    save(files["seg"], label)
    prepared = load_case(only_case("brats", tmp_path))
    assert prepared.entry["crop"][0][0] == 0
    assert prepared.entry["crop"][2][0] == 0
    assert np.count_nonzero(prepared.label) == np.count_nonzero(label)


def test_scaled_and_extreme_values(tmp_path: Path) -> None:
    values = brain(0).astype(np.float32)
    values[5, 5, 5] = 1e5
    path = save(tmp_path / "images/x.nii.gz", values)
    save(tmp_path / "labels/x.nii.gz", tumour((1,)))
    case = only_case("folders", tmp_path)
    first = load_case(case).image
    image = nib.load(path)
    header = image.header.copy()
    header.set_data_dtype(np.int32)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header), path)
    assert nib.load(path).dataobj.slope not in (1, None)
    np.testing.assert_allclose(load_case(case).image, first, atol=2e-2)
    save(path, np.where(brain(0) > 500, 3e38, -3e38) * (brain(0) != 0))  # as float64
    assert np.isfinite(load_case(case).image).all()


def test_nifti_2_unpacked_and_wrongly_named(tmp_path: Path) -> None:
    nii = tmp_path / "images/x.nii"
    nii.parent.mkdir()
    nib.save(nib.Nifti2Image(brain(0), ORIENTATIONS["LPS"]), nii)
    save(tmp_path / "labels/x.nii", tumour((1,)), ORIENTATIONS["LPS"])
    case = only_case("folders", tmp_path)
    first = load_case(case).image
    nii.write_bytes(gzip.compress(nii.read_bytes()))  # still named .nii
    np.testing.assert_array_equal(load_case(case).image, first)


def test_units_are_millimetres(tmp_path: Path) -> None:
    files = save_brats(tmp_path)
    image = nib.load(files["t1"])
    for units, spacing in (("meter", 1000), ("micron", 0.001), ("unknown", 1)):
        image.header.set_xyzt_units(units)
        nib.save(image, tmp_path / "copy.nii.gz")
        files["t1"].write_bytes((tmp_path / "copy.nii.gz").read_bytes())
        entry = load_case(only_case("brats", tmp_path)).entry
        np.testing.assert_allclose(entry["spacing"], [spacing] * 3)


def cut_checksum(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def truncate_unpacked(file: Path) -> None:
    file.write_bytes(gzip.decompress(file.read_bytes())[:-10])


def changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        save(file, change(nib.load(file).get_fdata()), ORIENTATIONS["RAS"])

    return apply


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def apply(data: np.ndarray) -> np.ndarray:
        data[6, 5, 6] = value
        return data

    return apply


def in_colour(file: Path) -> None:
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, ORIENTATIONS["RAS"]), file)


def moved(file: Path) -> None:
    affine = ORIENTATIONS["RAS"].copy()
    affine[0, 3] += 0.1
    save(file, nib.load(file).get_fdata(), affine)


def stretched(file: Path) -> None:
    save(file, nib.load(file).get_fdata(), affine_of("RAS", (1, 1, 1.02)))


def flat(file: Path) -> None:
    image = nib.load(file)
    image.header["sform_code"] = 2
    image.header["srow_z"] = 0
    content = image.header.binaryblock + gzip.decompress(file.read_bytes())[348:]
    file.write_bytes(gzip.compress(content))


BROKEN = [
    ("t1ce", truncate, "files that cannot be read: {t1ce} (truncated or damaged gzip"),
    ("t1ce", cut_checksum, "files that cannot be read: {t1ce} (truncated or damaged gzip"),
    ("t1ce", damage, "files that cannot be read: {t1ce} (truncated or damaged gzip"),
    ("seg", truncate, "files that cannot be read: {seg} (truncated or damaged gzip"),
    ("t2", truncate_unpacked, "files that cannot be read: {t2} (truncated: "),
    ("t2", lambda f: f.write_bytes(b""), "files that cannot be read: {t2} (not a NIfTI file)"),
    ("t2", lambda f: f.write_bytes(b"x" * 999), "files that cannot be read: {t2} (not a NIfTI"),
    ("seg", Path.unlink, "files that cannot be read: {seg} (No such file or directory)"),
    ("t2", in_colour, "files whose voxels are not numbers: {t2}"),
    ("t2", changed(lambda d: d[..., None]), "files that are not of three axes: {t2} (shape"),
    ("t1", changed(lambda d: np.stack([d, d], 3)), "files that are not of three axes: {t1}"),
    ("seg", changed(lambda d: d[:, :, 0]), "files that are not of three axes: {seg}"),
    ("t2", changed(with_value(np.nan)), "images with NaN or infinite voxels: {t2} (1)"),
    ("t2", changed(with_value(-np.inf)), "images with NaN or infinite voxels: {t2} (1)"),
    ("t2", changed(with_value(1e300)), "images with NaN or infinite voxels: {t2} (1)"),
    ("t2", changed(lambda d: 0 * d), "images of zeros alone: {t2}"),
    ("t2", changed(lambda d: np.sign(d)), "images of one value alone: {t2} (1)"),
    ("t2", changed(lambda d: d[:-1]), "of another shape than their case's first image: {t2}"),
    ("seg", changed(lambda d: d[:, ::2]), "of another shape than their case's first image: {seg}"),
    ("seg", moved, "of another affine than their case's first image: {seg} (corners up to 0.1 mm"),
    ("flair", stretched, "of another affine than their case's first image: {flair} (corners"),
    ("t1", flat, "files with an impossible affine: {t1}"),
    ("seg", changed(with_value(1.5)), "labels that are not whole numbers: {seg} (1 voxels)"),
    ("seg", changed(with_value(np.nan)), "labels that are not whole numbers: {seg} (1 voxels)"),
    ("seg", changed(with_value(np.inf)), "labels that are not whole numbers: {seg} (1 voxels)"),
    ("seg", changed(with_value(-1)), "labels outside 0..255: {seg} (-1 to 4)"),
    ("seg", changed(with_value(300)), "labels outside 0..255: {seg} (0 to 300)"),
]


@pytest.mark.parametrize(("part", "change", "sentence"), BROKEN)
def test_broken_files_are_named(
    tmp_path: Path, part: str, change: Callable[[Path], object], sentence: str
) -> None:
    files = save_brats(tmp_path)
    case = only_case("brats", tmp_path)
    load_case(case)
    change(files[part])
    with pytest.raises(InputError) as error:
        load_case(case)
    assert sentence.format(**files) in str(error.value)


def test_all_problems_of_a_case_at_once(tmp_path: Path) -> None:
    files = save_brats(tmp_path)
    case = only_case("brats", tmp_path)
    truncate(files["t1"])
    changed(with_value(np.nan))(files["t2"])
    changed(with_value(0.5))(files["seg"])
    with pytest.raises(InputError) as error:
        load_case(case)
    assert all(str(files[part]) in str(error.value) for part in ("t1", "t2", "seg"))


def test_headers_may_be_rounded(tmp_path: Path) -> None:
    files = save_brats(tmp_path, affine=ORIENTATIONS["oblique"])
    save(files["seg"], tumour(), ORIENTATIONS["oblique"] + 1e-4, codes=(1, 0))
    load_case(only_case("brats", tmp_path))
    save(files["seg"], tumour().astype(np.float64) * (1 - 1e-7), ORIENTATIONS["oblique"])
    assert load_case(only_case("brats", tmp_path)).label.max() == 4


def test_wrong_axis(tmp_path: Path) -> None:
    save_brats(tmp_path)
    with pytest.raises(InputError, match="--axis 3 is not 0, 1 or 2"):
        load_case(only_case("brats", tmp_path), 3)


def test_zeros_within_the_brain_belong_to_it(tmp_path: Path) -> None:
    first, second = brain(0), brain(1)
    first[6, 5, 4] = second[7, 5, 4] = 0  # in one channel each
    first[8, 6, 5] = second[8, 6, 5] = 0  # a hole
    first[2, 3, 4] = second[2, 3, 4] = 0  # open to the outside
    for channel, data in enumerate((first, second)):
        save(tmp_path / f"images/x_{channel:04d}.nii.gz", data)
    save(tmp_path / "labels/x.nii.gz", tumour((1,)))
    prepared = load_case(only_case("folders", tmp_path))
    crop = tuple(slice(*bounds) for bounds in prepared.entry["crop"])
    inside = brain(0) != 0
    inside[2, 3, 4] = False
    for channel, data in enumerate((first, second)):
        values = data[inside].astype(float)
        wanted = np.where(inside, (data - values.mean()) / values.std(), 0)[crop]
        found = np.moveaxis(prepared.image[:, channel], 0, 2)
        np.testing.assert_allclose(found, wanted, atol=2e-3)
        np.testing.assert_array_equal(found == 0, ~inside[crop])


def test_heads_with_their_skulls_count_as_a_whole(tmp_path: Path) -> None:
    data = brain(0)
    data[3:5] = 0  # air in the middle
    save(tmp_path / "images/x.nii.gz", data)
    save(tmp_path / "labels/x.nii.gz", tumour((1,)))
    prepared = load_case(only_case("folders", tmp_path), skull_stripped=False)
    assert prepared.entry["skull_stripped"] is False
    crop = tuple(slice(*bounds) for bounds in prepared.entry["crop"])
    values = data[crop].astype(float)
    wanted = (values - values.mean()) / values.std()
    found = np.moveaxis(prepared.image[:, 0], 0, 2)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert found[1:3].max() < 0  # air is dark, not the mean


def test_no_voxel_of_the_mean_is_taken_for_the_outside(tmp_path: Path) -> None:
    data = np.where(brain(0) == 0, 0, 50)
    data[5:8] = np.where(brain(0)[5:8] == 0, 0, 75)
    data[8:11] = np.where(brain(0)[8:11] == 0, 0, 25)
    save(tmp_path / "images/x.nii.gz", data.astype(np.int16))
    save(tmp_path / "labels/x.nii.gz", tumour((1,)))
    image = load_case(only_case("folders", tmp_path)).image
    assert np.count_nonzero(image) == np.count_nonzero(data)
    assert np.isclose(image.astype(float), 0, atol=1e-6).sum() > np.count_nonzero(data == 0) * 0.01


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2)])
def test_a_file_says_how_it_lies_by_one_of_two_codes(tmp_path: Path, codes: tuple) -> None:
    save(tmp_path / "images/x.nii.gz", brain(0), codes=codes)
    save(tmp_path / "labels/x.nii.gz", tumour((1,)), codes=codes)
    entry = load_case(only_case("folders", tmp_path)).entry
    assert entry["oriented"] is any(codes)
