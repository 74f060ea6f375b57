"""datasets/prepare_mri.py from its command line to its arrays and indexes."""

import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inspire_d2.data.mri import check_mri_dataset, mri_dataset

from .mri_helpers import ORIENTATIONS, SHAPE, brain, contents, load, save, save_brats, tumour

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="workers are not forked here")


def test_a_set_by_ratio(
    brats: Path, prepare_mri: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    prepare_mri("--layout", "brats", "--root", brats, "--val-ratio", 0.4, "--seed", 1)
    said = capsys.readouterr()
    assert "train.json" in said.out
    assert "foreground_slices" in said.out
    assert "case/s" in said.err
    prepared = brats / "prepared"
    train, val = load(prepared / "train.json"), load(prepared / "val.json")
    patients = [{entry["patient"] for entry in part["cases"]} for part in (train, val)]
    assert not patients[0] & patients[1]
    assert [len(names) for names in patients] == [2, 2]
    for part in (train, val):
        assert part["format"] == "inspire_d2 mri 2"
        assert part["layout"] == "brats"
        assert part["channels"] == ["t1", "t1ce", "t2", "flair"]
        assert part["labels"] == [1, 2, 3]
        assert part["split"] == {"rule": "ratio", "val_ratio": 0.4, "seed": 1}
        for entry in part["cases"]:
            assert entry["image"] == f"cases/{entry['case']}.image.npy"
            assert load(prepared / f"cases/{entry['case']}.json")["crop"] == entry["crop"]
            assert entry["reference"].startswith("../BraTS-GLI-")
            assert (prepared / entry["reference"]).is_file()
    assert not list(prepared.rglob("*.part"))
    check_mri_dataset("mine", str(prepared / "train.json"), labelled=True)


def test_arrays_against_the_files(
    brats: Path, prepare_mri: Callable[..., None], tmp_path: Path
) -> None:
    prepare_mri(
        "--layout", "brats", "--root", brats, "--all", "x", "--axis", 0, "--output", tmp_path / "o"
    )
    for entry in load(tmp_path / "o/x.json")["cases"]:
        assert entry["reference"] == str(brats / entry["case"] / f"{entry['case']}_t1.nii.gz")
        image = np.load(tmp_path / "o" / entry["image"])
        source = nib.load(entry["reference"]).get_fdata()
        scores = np.zeros(source.shape)
        mask = source != 0
        scores[mask] = (source[mask] - np.mean(source[mask])) / np.std(source[mask])
        (a, b), (c, d), (e, f) = entry["crop"]
        np.testing.assert_allclose(image[:, 0], scores[a:b, c:d, e:f], atol=2e-3)
        assert np.count_nonzero(image[:, 0]) == mask.sum()
        label = nib.load(entry["reference"].replace("_t1.", "_seg.")).get_fdata()
        stored = np.load(tmp_path / "o" / entry["label"])
        for value in (1, 2, 3):
            in_slices = (label == value).sum(axis=(1, 2))[a:b]
            assert entry["voxels"][str(value)] == in_slices.tolist()
            assert (stored == value).sum() == (label == value).sum()


@linux_only
def test_bytes_do_not_depend_on_jobs(
    brats: Path, prepare_mri: Callable[..., None], tmp_path: Path
) -> None:
    for jobs, output in ((1, tmp_path / "one"), (2, tmp_path / "two")):
        arguments = ("--layout", "brats", "--root", brats, "--val-ratio", 0.3, "--output", output)
        prepare_mri(*arguments, "--jobs", jobs)
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    assert len(one) == 5 * 3 + 2


def test_all_problems_of_all_cases(brats: Path, mri_refused: Callable[..., str]) -> None:
    first, second, third, fourth, fifth = sorted(path.name for path in brats.iterdir())
    (brats / first / f"{first}_seg.nii.gz").unlink()
    (brats / second / f"{second}_flair.nii.gz").unlink()
    packed = brats / third / f"{third}_t1.nii.gz"
    packed.write_bytes(packed.read_bytes()[:-50])
    save(brats / fourth / f"{fourth}_seg.nii.gz", tumour((1, 2, 7)), ORIENTATIONS["LPS"])
    said = mri_refused("--layout", "brats", "--root", brats, "--val-ratio", 0.3)
    for sentence in (
        f"cases without a label file (1): {first}",
        f"cases without flair (1): {second}",
        f"files that cannot be read (1): {third}/{third}_t1.nii.gz (truncated or damaged gzip",
        f"labels outside the set (1, 2, 3) (1): {fourth} (7)",
    ):
        assert sentence in said
    assert fifth not in said
    assert not list((brats / "prepared").glob("*.json"))
    assert not list((brats / "prepared").rglob("*.part"))
    assert not list((brats / "prepared/cases").glob(f"{third}*"))
    assert (brats / f"prepared/cases/{fifth}.json").is_file()


def test_an_index_stays_where_a_new_one_is_refused(
    brats: Path, prepare_mri: Callable[..., None], mri_refused: Callable[..., str]
) -> None:
    arguments = ("--layout", "brats", "--root", brats, "--val-ratio", 0.3)
    prepare_mri(*arguments)
    before = {p: p.read_bytes() for p in (brats / "prepared").glob("*.json")}
    seg = brats / "BraTS-GLI-00001-000/BraTS-GLI-00001-000_seg.nii.gz"
    save(seg, tumour((1, 2, 3))[1:], ORIENTATIONS["LPS"])
    assert "of another shape" in mri_refused(*arguments)
    assert {p: p.read_bytes() for p in (brats / "prepared").glob("*.json")} == before


def test_label_values(
    tmp_path: Path, prepare_mri: Callable[..., None], mri_refused: Callable[..., str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "mixed"
    for root, values in ((old, (1, 2, 4)), (new, (1, 2, 4)), (new, (1, 2, 3)), (new, (1, 2))):
        save_brats(root, f"case{''.join(map(str, values))}", values)
    prepare_mri("--layout", "brats", "--root", old, "--all", "x")
    assert load(old / "prepared/x.json")["labels"] == [1, 2, 4]
    said = mri_refused("--layout", "brats", "--root", new, "--all", "x")
    assert "labels outside the set (1, 2, 4) (1): case123 (3)" in said
    prepare_mri("--layout", "brats", "--root", new, "--all", "x", "--label-values", 4, 3, 2, 1)
    assert load(new / "prepared/x.json")["labels"] == [1, 2, 3, 4]
    save(tmp_path / "mine/images/x.nii", brain(0))
    save(tmp_path / "mine/labels/x.nii", tumour((3, 17)))
    folders = ("--layout", "folders", "--root", tmp_path / "mine", "--all", "x")
    prepare_mri(*folders)
    assert load(tmp_path / "mine/prepared/x.json")["labels"] == [3, 17]
    said = mri_refused(*folders, "--label-values", 3, 5)
    assert "labels outside the set (3, 5) (1): x (17)" in said


def test_splits_by_patient(
    brats: Path, prepare_mri: Callable[..., None], mri_refused: Callable[..., str], tmp_path: Path
) -> None:
    arguments = ("--layout", "brats", "--root", brats)
    names = tmp_path / "val.txt"
    for text, sentence in (
        ("BraTS-GLI-00004-000", "is a case of the patient BraTS-GLI-00004: name the patient"),
        ("BraTS-GLI-00009", "BraTS-GLI-00009 is no patient"),
        ("BraTS-GLI-00004\nBraTS-GLI-00004\n", "BraTS-GLI-00004 twice"),
        ("\n", "leaves val or train without a patient"),
        ("\n".join(f"BraTS-GLI-0000{i}" for i in range(1, 5)), "leaves val or train without"),
    ):
        names.write_text(text)
        assert sentence in mri_refused(*arguments, "--val-list", names)
    assert "cannot be read" in mri_refused(*arguments, "--val-list", tmp_path / "none")
    assert "between 0 and 1" in mri_refused(*arguments, "--val-ratio", 1.0)
    assert "is no file name" in mri_refused(*arguments, "--all", "../x")
    names.write_text("BraTS-GLI-00004\n\n")
    prepare_mri(*arguments, "--val-list", names)
    val = load(brats / "prepared/val.json")
    assert [e["case"] for e in val["cases"]] == ["BraTS-GLI-00004-000", "BraTS-GLI-00004-001"]
    assert val["split"] == {"rule": "list", "val_list": "val.txt"}
    assert len(load(brats / "prepared/train.json")["cases"]) == 3


def test_a_patient_in_another_index(
    brats: Path, prepare_mri: Callable[..., None], mri_refused: Callable[..., str], tmp_path: Path
) -> None:
    prepare_mri("--layout", "brats", "--root", brats, "--val-ratio", 0.3)
    said = mri_refused("--layout", "brats", "--root", brats, "--all", "test")
    assert "patients are in" in said
    assert "delete that index" in said
    save_brats(tmp_path / "more", "BraTS-GLI-00007-000", (1, 2, 3))
    prepare_mri(
        "--layout", "brats", "--root", tmp_path / "more", "--all", "test",
        "--output", brats / "prepared",
    )  # fmt: skip
    assert len(mri_dataset("x", str(brats / "prepared/test.json"))) == 1


def test_one_patient_cannot_be_divided(tmp_path: Path, mri_refused: Callable[..., str]) -> None:
    save_brats(tmp_path, "BraTS-GLI-00001-000")
    said = mri_refused("--layout", "brats", "--root", tmp_path, "--val-ratio", 0.5)
    assert "all cases are of one (BraTS-GLI-00001)" in said


def test_options_that_do_not_go_together(mri_refused: Callable[..., str], tmp_path: Path) -> None:
    root = ("--root", tmp_path)
    for arguments, sentence in (
        (("--layout", "brats", *root), "one of the arguments --val-ratio"),
        (("--layout", "brats", "--all", "x"), "--root is missing"),
        (("--layout", "brats", *root, "--all", "x", "--seed", 1), "--seed belongs to"),
        (("--layout", "brats", *root, "--all", "x", "--label-values", 0), "between 1 and 255"),
        (("--layout", "lgg", *root, "--all", "x", "--axis", 0), "its files are slices"),
        (("--layout", "brats", *root, "--all", "x", "--axis", 3), "--axis 3 is not 0, 1 or 2"),
        (("--layout", "brats", *root, "--all", "x", "--jobs", 0), "must be at least 1"),
        (
            ("--layout", "brats", *root, "--all", "x", "--index", "x"),
            "x cannot be read: No such file",
        ),
        (("--layout", "brats", "--root", tmp_path / "no", "--all", "x"), "is not a folder"),
    ):
        assert sentence in mri_refused(*arguments)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    said = mri_refused("--layout", "brats", *root, "--all", "x", "--output", tmp_path / "file/out")
    assert "cannot be written" in said


def test_folders_of_nifti(tmp_path: Path, prepare_mri: Callable[..., None]) -> None:
    for name in ("a", "b"):
        for channel in range(2):
            save(tmp_path / f"images/{name}_000{channel}.nii.gz", brain(channel))
        save(tmp_path / f"labels/{name}.nii.gz", tumour((1,)))
    prepare_mri(
        "--layout", "folders", "--images", tmp_path / "images",
        "--labels", tmp_path / "labels", "--val-ratio", 0.5,
    )  # fmt: skip
    train, val = (mri_dataset("x", str(tmp_path / f"prepared/{n}.json")) for n in ("train", "val"))
    assert {train[0]["case"], val[0]["case"]} == {"a", "b"}
    assert train[0]["channels"] == ["0000", "0001"]
    assert train[0]["shape"] == list(SHAPE)


def test_real_slices(
    shared_datasets: Path, tmp_path: Path, prepare_mri: Callable[..., None]
) -> None:
    prepare_mri(
        "--layout", "lgg", "--root", shared_datasets / "lgg_mri", "--val-ratio", 0.25,
        "--output", tmp_path,
    )  # fmt: skip
    train, val = (mri_dataset("x", str(tmp_path / f"{n}.json")) for n in ("train", "val"))
    assert (len(train), len(val)) == (6, 2)
    assert sum(len(item["slices"]) for item in train + val) == 109
    assert sum(np.count_nonzero(item["voxels"]["1"]) for item in train + val) == 93
    for item in train + val:
        assert item["slices"] == sorted(item["slices"])
        assert np.load(item["image"], mmap_mode="r").shape[1] == 3
        assert item["labels"] == [1]


def test_a_split_that_fails_for_want_of_cases(
    tmp_path: Path, mri_refused: Callable[..., str]
) -> None:
    save_brats(tmp_path, "a")
    save_brats(tmp_path, "b")["t2"].unlink()
    said = mri_refused("--layout", "brats", "--root", tmp_path, "--val-ratio", 0.5)
    assert "cases without t2 (1): b" in said
    assert "all cases are of one (a)" in said
    assert "cannot be used, no index was written" in said


def test_a_set_whose_folder_is_a_link(tmp_path: Path, prepare_mri: Callable[..., None]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save_brats(tmp_path / "real", "a")
    prepare_mri("--layout", "brats", "--root", tmp_path / "link", "--all", "x")
    (entry,) = load(tmp_path / "real/prepared/x.json")["cases"]
    assert entry["reference"] == "../a/a_t1.nii.gz"
    (tmp_path / "scratch").mkdir()
    (tmp_path / "real/other").symlink_to(tmp_path / "scratch")
    prepare_mri(
        "--layout", "brats", "--root", tmp_path / "real", "--all", "x",
        "--output", tmp_path / "real/other",
    )  # fmt: skip
    (entry,) = load(tmp_path / "scratch/x.json")["cases"]
    assert entry["reference"] == str(tmp_path / "real/a/a_t1.nii.gz")


@pytest.mark.parametrize(
    ("name", "values"),
    [("BraTS-GLI-00008-000", [1, 2, 3]), ("BraTS20_Validation_001", [1, 2, 4])],
)
def test_what_no_label_tells_the_names_do(
    tmp_path: Path, prepare_mri: Callable[..., None], name: str, values: list[int]
) -> None:
    save_brats(tmp_path, name)["seg"].unlink()
    prepare_mri("--layout", "brats", "--root", tmp_path, "--all", "x", "--allow-missing-labels")
    assert load(tmp_path / "prepared/x.json")["labels"] == values


def test_slices_of_two_directions_are_told(
    tmp_path: Path, prepare_mri: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    for name, orientation in (("a", "RAS"), ("b", "LPS"), ("c", "permuted")):
        save_brats(tmp_path, name, affine=ORIENTATIONS[orientation])
    arguments = ("--layout", "brats", "--root", tmp_path, "--all", "x")
    prepare_mri(*arguments)
    told = "from foot to head in 2 cases (a, b); from back to front in 1 case (c)"
    assert f"warning: the slices do not go the same way: {told}" in capsys.readouterr().err
    (tmp_path / "c").rename(tmp_path / ".c")
    prepare_mri(*arguments)
    told = "slices, rows and columns lead to SRA in 1 case (a); SLP in 1 case (b)"
    assert f"turned or mirrored, and trained on as they are: {told}" in capsys.readouterr().err
    (tmp_path / "b").rename(tmp_path / ".b")
    prepare_mri(*arguments)
    assert "warning" not in capsys.readouterr().err
