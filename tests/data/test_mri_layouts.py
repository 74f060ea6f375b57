"""Cases of each MRI data set are found by their names, and what is missing is said."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from inspire_d2.data.mri_layouts import Case, find_cases, patient_of
from inspire_d2.data.problems import Problems
from inspire_d2.errors import InputError


def touch(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def find(layout: str, root: Path, **options: object) -> list[Case]:
    problems = Problems(root)
    cases = find_cases(layout, root, problems, **options)
    problems.raise_if_any()
    return cases


@pytest.mark.parametrize(
    ("folder", "pattern", "parts"),
    [
        ("HGG/Brats18_CBICA_AAB_1", "{folder}_{part}.nii.gz", "t1 t1ce t2 flair seg"),
        ("BraTS20_Training_001", "{folder}_{part}.nii", "t1 t1ce t2 flair seg"),
        ("BraTS2021_00000", "{folder}_{part}.nii.gz", "t1 t1gd t2 flair seg"),
        ("BraTS-GLI-00003-001", "{folder}-{part}.nii.gz", "t1n t1c t2w t2f seg"),
        ("UPPER", "{folder}_{part}.NII.GZ", "T1 T1CE T2 FLAIR SEG"),
        ("BraTS20_Training_355", "W39_{part}.nii", "t1 t1ce t2 flair Segm"),
    ],
)
def test_brats_names(tmp_path: Path, folder: str, pattern: str, parts: str) -> None:
    name = Path(folder).name
    files = [f"{folder}/{pattern.format(folder=name, part=part)}" for part in parts.split()]
    touch(tmp_path, [*files, f"{folder}/notes.txt", "predictions/BraTS_1.nii.gz", "prepared/x.npy"])
    (case,) = find("brats", tmp_path)
    assert case.name == name
    assert case.channels == ("t1", "t1ce", "t2", "flair")
    assert case.images == tuple(tmp_path / file for file in files[:4])
    assert case.labels == (tmp_path / files[4],)
    index = tmp_path / "index.csv"
    index.write_text(f"name,patient\n{name},P\n")
    assert find("brats", tmp_path, index=index)[0].patient == "P"
    index.write_text("name,patient\nz,P\n")
    with pytest.raises(InputError, match=r"cases that the index does not name \(1\): "):
        find("brats", tmp_path, index=index)
    assert len(find("brats", tmp_path)) == 1  # there it may be anything


def test_brats_problems_are_all_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        touch(tmp_path, [f"{name}/{name}_{p}.nii.gz" for p in ("t1", "t1ce", "t2", "flair", "seg")])
    (tmp_path / "a/a_t2.nii.gz").unlink()
    touch(tmp_path, ["a/a_something.nii.gz", "b/b_t1n.nii"])
    (tmp_path / "c/c_seg.nii.gz").unlink()
    touch(tmp_path, [f"LGG/D/D_{p}.nii.gz" for p in ("t1", "t1ce", "t2", "flair", "seg")])
    with pytest.raises(InputError) as error:
        find("brats", tmp_path)
    for sentence in (
        r"cases without t2 (1): a (there is a_something.nii.gz)",
        r"cases with more than one file for t1 (1): b (b_t1.nii.gz, b_t1n.nii)",
        r"cases without a label file (1): c",
        r"cases of the same name (1): ",
    ):
        assert sentence in str(error.value)
    (tmp_path / "a/a_t2.nii.gz").touch()
    (tmp_path / "b/b_t1n.nii").unlink()
    (tmp_path / "LGG").rename(tmp_path / ".hidden")
    cases = find("brats", tmp_path, labelled=False)
    assert [(case.name, len(case.labels)) for case in cases] == [
        ("a", 1), ("b", 1), ("c", 0), ("d", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("BraTS-GLI-00003-001", "BraTS-GLI-00003"),
        ("Brats17_TCIA_242_1", "Brats17_TCIA_242"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00000", "BraTS2021_00000"),
        ("sub-r001s001_ses-1", "sub-r001s001"),
        ("UPENN-GBM-00001_21", "UPENN-GBM-00001"),
        ("case_7", "case_7"),
    ],
)
def test_patients(case: str, patient: str) -> None:
    assert patient_of(case) == patient


ATLAS = "sub-r001s00{n}/ses-1/anat/sub-r001s00{n}_ses-1_space-MNI152NLin2009aSym_"


@pytest.mark.parametrize("folder", ["", "Training/R001/"])
def test_atlas(tmp_path: Path, folder: str) -> None:
    for n in (2, 1):
        touch(tmp_path, [
            folder + ATLAS.format(n=n) + "T1w.nii.gz",
            folder + ATLAS.format(n=n) + "label-L_desc-T1lesion_mask.nii.gz",
        ])  # fmt: skip
    first, second = find("atlas", tmp_path)
    assert (first.name, first.patient) == ("sub-r001s001_ses-1", "sub-r001s001")
    assert second.name == "sub-r001s002_ses-1"
    assert first.channels == ("t1w",)
    assert first.images[0].name.endswith("001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz")
    assert first.labels[0].name.endswith("001_ses-1_space-MNI152NLin2009aSym_label-L_desc-"
                                         "T1lesion_mask.nii.gz")  # fmt: skip
    first.labels[0].unlink()
    with pytest.raises(InputError, match=r"cases without a label file \(1\): sub-r001s001_ses-1"):
        find("atlas", tmp_path)


def test_lgg_as_published(tmp_path: Path) -> None:
    for n in (10, 9, 1):
        touch(tmp_path, [f"TCGA_A/TCGA_A_{n}.tif", f"TCGA_A/TCGA_A_{n}_mask.tif"])
    touch(tmp_path, ["TCGA_B/TCGA_B_1.tif", "TCGA_B/TCGA_B_1_mask.tif", "data.csv"])
    first, second = find("lgg", tmp_path)
    assert (first.name, first.patient, first.slices) == ("TCGA_A", "TCGA_A", (1, 9, 10))
    assert [file.name for file in first.images] == [f"TCGA_A_{n}.tif" for n in (1, 9, 10)]
    assert [file.name for file in first.labels] == [f"TCGA_A_{n}_mask.tif" for n in (1, 9, 10)]
    assert second.name == "TCGA_B"


def test_lgg_flat_with_patients_of_an_index(tmp_path: Path) -> None:
    for stem in ("a_1", "a_2", "b_7"):
        touch(tmp_path, [f"images/{stem}.png", f"masks/{stem}.png"])
    assert [case.name for case in find("lgg", tmp_path)] == ["a", "b"]
    (tmp_path / "index.csv").write_text("name,patient\na_1,P\na_2,P\nb_7,P\n")
    (case,) = find("lgg", tmp_path)
    assert (case.patient, case.slices) == ("P", (1, 2, 7))
    (tmp_path / "index.csv").write_text("name,patient\na_1,P\na_2,P\n")
    with pytest.raises(InputError, match=r"images that the index does not name \(1\): b_7"):
        find("lgg", tmp_path)
    (tmp_path / "index.csv").write_text("name,patient\na_1,P\na_1,Q\n")
    with pytest.raises(InputError, match="names two patients for a_1"):
        find("lgg", tmp_path)


def test_lgg_problems(tmp_path: Path) -> None:
    touch(tmp_path, ["A/A_1.tif", "A/A_1_mask.tif", "A/A_2.tif", "A/A_01.tif", "A/A_01_mask.tif",
                     "B/B_3_mask.tif", "C/C.tif", "copy/A/A_2.tif"])  # fmt: skip
    with pytest.raises(InputError) as error:
        find("lgg", tmp_path)
    for sentence in (
        "masks without an image (1): B/B_3_mask.tif",
        "images without a mask (1): copy/A/A_2.tif",
        "slices of the same number (1): A_01 = A_1",
        "images whose name does not end with the slice's number (1): C/C.tif",
        "files of the same name (1): A/A_2.tif = copy/A/A_2.tif",
    ):
        assert sentence in str(error.value)


def test_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["i/x_0000.nii.gz", "i/x_0001.nii.gz", "i/y_0000.nii.gz", "i/y_0001.nii.gz"])
    touch(tmp_path, ["l/x.nii.gz", "l/y_seg.nii"])
    folders = {"images": tmp_path / "i", "labels": tmp_path / "l"}
    x, y = find("folders", tmp_path, **folders)
    assert x.channels == ("0000", "0001")
    assert [file.name for file in x.images] == ["x_0000.nii.gz", "x_0001.nii.gz"]
    assert x.labels == (tmp_path / "l/x.nii.gz",)
    assert y.labels == (tmp_path / "l/y_seg.nii",)
    (tmp_path / "index.csv").write_text("name,patient\nx,P1\ny,P1\n")
    assert {case.patient for case in find("folders", tmp_path, **folders)} == {"P1"}
    (tmp_path / "index.csv").write_text("name,patient\nothers,P1\n")  # those trained on
    unlabelled = {"images": tmp_path / "i", "labelled": False}
    assert len(find("folders", tmp_path, **unlabelled, parted=False)) == 2
    with pytest.raises(InputError, match="cases that the index does not name"):
        find("folders", tmp_path, **unlabelled)
    (tmp_path / "i/y_0001.nii.gz").unlink()
    touch(tmp_path, ["l/z.nii", "l/x_label.nii.gz"])
    with pytest.raises(InputError) as error:
        find("folders", tmp_path, **folders)
    for sentence in (
        "labels without an image (1): z.nii",
        "cases that lack channels of others (1): y (0001)",
        "cases with more than one label file (1): x (x.nii.gz, x_label.nii.gz)",
    ):
        assert sentence in str(error.value)


def test_folders_of_single_images(tmp_path: Path) -> None:
    touch(tmp_path, ["images/x.nii", "labels/x.nii.gz"])
    (case,) = find("folders", tmp_path)
    assert (case.channels, case.name) == (("image",), "x")
    (only,) = find("folders", tmp_path, images=tmp_path / "images", labelled=False)
    assert only.labels == ()


def test_numbered_cases_are_no_channels(tmp_path: Path) -> None:
    names = [f"scan_{number:04d}" for number in range(3)]
    touch(tmp_path, [f"images/{name}.nii.gz" for name in names])
    touch(tmp_path, [f"labels/{name}_seg.nii.gz" for name in names])
    assert [case.name for case in find("folders", tmp_path)] == names
    images = {"images": tmp_path / "images", "labelled": False}
    (merged,) = find("folders", tmp_path, **images)  # as nnU-Net names channels
    assert merged.channels == ("0000", "0001", "0002")
    single = find("folders", tmp_path, **images, channels=["image"])  # the model's
    assert [(case.name, case.channels) for case in single] == [(n, ("image",)) for n in names]
    (tmp_path / "images/scan_0000.nii.gz").unlink()
    assert [case.name for case in find("folders", tmp_path, **images)] == names[1:]


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds none in the layout brats"):
        find("brats", tmp_path)
    with pytest.raises(InputError, match="does not hold the folders images and labels"):
        find("folders", tmp_path)
    with pytest.raises(InputError, match="--root .* is not a folder"):
        find("brats", tmp_path / "none")
    with pytest.raises(InputError, match="belong to --layout folders, not to brats"):
        find("brats", tmp_path, images=tmp_path)
    with pytest.raises(InputError, match="the same folder"):
        find("folders", tmp_path, images=tmp_path, labels=tmp_path)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, [f"store/a/a_{p}.nii.gz" for p in ("t1", "t1ce", "t2", "flair", "seg")])
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a").symlink_to(tmp_path / "store/a")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    (case,) = find("brats", tmp_path / "set")
    assert case.images[0] == tmp_path / "set/a/a_t1.nii.gz"


def test_what_is_no_case_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    touch(tmp_path, [f"a/a_{p}.nii.gz" for p in ("t1", "t1ce", "t2", "flair", "seg")])
    touch(tmp_path, ["B/B_t1_bet.nii.gz", "B/B_T1X.nii.gz"])
    assert [case.name for case in find("brats", tmp_path)] == ["a"]
    assert f"warning: {tmp_path / 'B'} is no case: none of its 2 NIfTI" in capsys.readouterr().err
    stem = ATLAS.format(n=1)
    touch(tmp_path / "atlas", [f"{stem}T1w.nii.gz", f"{stem}label-L_desc-T1lesion_mask.nii.gz"])
    other = ATLAS.format(n=2)
    touch(tmp_path / "atlas", [f"{other}t1w.nii.gz", f"{other}label-L_desc-T1lesion_mask.nii.gz"])
    with pytest.raises(InputError, match=r"lesion masks without a T1w image \(1\): .*r001s002"):
        find("atlas", tmp_path / "atlas")


def test_cases_of_one_name_are_left_out(tmp_path: Path) -> None:
    for folder in ("HGG/x", "LGG/X", "LGG/y"):
        name = folder[-1]
        touch(tmp_path, [f"{folder}/{name}_{p}.nii.gz" for p in ("t1", "t1ce", "t2", "flair")])
    problems = Problems(tmp_path)
    cases = find_cases("brats", tmp_path, problems, labelled=False)
    assert [case.name for case in cases] == ["y"]
    with pytest.raises(InputError, match=r"cases of the same name \(1\): "):
        problems.raise_if_any()
