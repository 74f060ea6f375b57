"""From NIfTI files to label maps with a trained model, whatever some of the files are."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inspire_d2.data.problems import Problems
from inspire_d2.engine.config import load_config, save_config
from tools.predict_mri import main

nib = pytest.importorskip("nibabel")
pytest.importorskip("monai")
ROOT = Path(__file__).resolve().parents[2]
SHAPE = (20, 24, 6)
# Left to posterior to superior, with a tilt.
AFFINE = np.array([[-1.1, 0, 0.1, 9], [0, 0, 2, -4], [0, -1.2, 0, 30], [0, 0, 0, 1]])


def write_case(folder: Path, name: str, seed: int, channels: int = 2) -> np.ndarray:
    """Write a bright block on noise, each channel a file; return the block's mask."""
    generator = np.random.default_rng(seed)
    block = np.zeros(SHAPE, bool)
    block[5:12, 6:15, 1:4] = True
    for channel in range(channels):
        data = generator.normal(100, 5, SHAPE) + 400 * block
        image = nib.Nifti1Image(data.astype(np.float32), AFFINE)
        nib.save(image, folder / f"{name}_{channel:04d}.nii.gz")
    return block


class Brightest(torch.nn.Module):
    """What a trained model should be: sure of the voxels more than a deviation above the mean."""

    def forward(self, items: list[dict]) -> list[dict]:
        return [{"sem_seg": (i["image"][:, :1].float() > 1).float().transpose(0, 1)} for i in items]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run trained on a set of two channels, with a model that is right."""
    index = {"format": "inspire_d2 mri 2", "layout": "folders", "channels": ["0000", "0001"],
             "labels": [1], "cases": [{
                 "case": "a", "patient": "a", "image": "a.npy", "label": None, "shape": [4, 4, 4],
                 "axis": 2, "crop": [[0, 4]] * 3, "spacing": [1.0] * 3,
                 "affine": np.eye(4).tolist(), "reference": None, "voxels": {},
                 "skull_stripped": False, "oriented": False}]}  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(index))
    folder = tmp_path / "run"
    folder.mkdir()
    cfg = load_config(
        str(ROOT / "configs/mri/atlas_unet_inspire.py"),
        [f"dataloader.train.dataset={{name:a,index:{tmp_path}/train.json}}"],
    )
    save_config(cfg, str(folder / "config.yaml"))
    monkeypatch.setattr("inspire_d2.engine.trained.load_trained", lambda *_: (cfg, Brightest()))
    return folder


def predict(run: Path, images: Path, *options: str) -> Path:
    output = run.parent / "predicted"
    main(["--run", str(run), "--layout", "folders", "--images", str(images),
          "--output", str(output), *options])  # fmt: skip
    return output


def test_label_maps_lie_where_the_images_do(run: Path, images: Path) -> None:
    block = write_case(images, "x", 0)
    label_map = nib.load(predict(run, images) / "x.nii.gz")
    np.testing.assert_array_equal(np.asarray(label_map.dataobj), block)
    np.testing.assert_allclose(label_map.affine, AFFINE, atol=1e-5)
    assert label_map.get_data_dtype() == np.uint8


def test_table_and_sheet_of_slices(run: Path, images: Path) -> None:
    block = write_case(images, "x", 0)
    output = predict(run, images)
    write_case(images, "y", 1)
    predict(run, images, "--skip-existing")
    with open(output / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["x", "y"]
    volume = abs(np.linalg.det(AFFINE[:3, :3])) * block.sum() / 1000
    assert float(rows[0]["ml"]) == pytest.approx(volume, rel=0.02)  # spacing is of single axes
    assert int(rows[0]["voxels"]) == block.sum() and rows[0]["parts"] == "1"
    sheet = cv2.imread(str(output / "x.png"))
    coloured = np.ptp(sheet.astype(int), axis=2) > 20
    assert 0.05 < coloured.mean() < 0.6


def test_a_broken_case_does_not_stop_the_others(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    write_case(images, "good", 0)
    write_case(images, "broken", 1)
    whole = (images / "broken_0001.nii.gz").read_bytes()
    (images / "broken_0001.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit) as ended:
        predict(run, images)
    assert ended.value.code == 2
    there = sorted(path.name for path in (run.parent / "predicted").iterdir())
    assert there == ["good.nii.gz", "good.png", "predictions.csv"]
    told = capsys.readouterr().err
    assert "predicted in part" in told and "broken" in told


def test_other_channels_are_refused(run: Path, images: Path, capsys: pytest.CaptureFixture) -> None:
    write_case(images, "x", 0, channels=3)
    with pytest.raises(SystemExit):
        predict(run, images)
    assert "was trained on 0000, 0001" in capsys.readouterr().err


def test_what_is_there_is_not_written_over(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    write_case(images, "x", 0)
    file = run.parent / "predicted" / "x.nii.gz"
    file.parent.mkdir()
    file.write_bytes(b"mine")
    with pytest.raises(SystemExit) as ended:
        predict(run, images)
    assert ended.value.code == 2
    assert "holds 1 of the files already (x)" in capsys.readouterr().err
    predict(run, images, "--skip-existing")
    assert file.read_bytes() == b"mine"
    predict(run, images, "--force")
    assert nib.load(file).shape == SHAPE


def test_what_is_done_is_told_whatever_stops_the_next(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[str]:
        with open(output / "predictions.csv", newline="") as file:
            return [row["case"] for row in csv.DictReader(file)]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for seed, name in enumerate("xyz"):
        write_case(images, name, seed)
    output = predict(run, images)
    with monkeypatch.context() as patch:
        patch.setattr("inspire_d2.data.nifti.write_label_map", stop)
        with pytest.raises(SystemExit) as ended:
            predict(run, images, "--force")
    assert ended.value.code == 130
    assert sorted(told()) == ["x", "y", "z"]  # of y and z as before
    (output / "y.nii.gz").unlink()
    predict(run, images, "--skip-existing")
    assert sorted(told()) == ["x", "y", "z"]


def test_labels_that_lie_beside_change_nothing(run: Path, images: Path) -> None:
    write_case(images, "x", 0)
    image = nib.load(images / "x_0000.nii.gz")
    data = np.asarray(image.dataobj).copy()
    data[15:] = 0  # no tissue there
    for channel in range(2):
        nib.save(nib.Nifti1Image(data, AFFINE), images / f"x_{channel:04d}.nii.gz")
    options = ["--run", str(run), "--layout", "folders", "--root", str(images.parent)]
    main([*options, "--output", str(images.parent / "without")])
    (images.parent / "labels").mkdir()
    labels = np.zeros(SHAPE, np.float32)
    labels[18, 3, 3] = 0.5  # no whole number, and where there is no tissue
    nib.save(nib.Nifti1Image(labels, AFFINE), images.parent / "labels" / "x.nii.gz")
    main([*options, "--output", str(images.parent / "with")])
    maps = [(images.parent / name / "x.nii.gz").read_bytes() for name in ("without", "with")]
    assert maps[0] == maps[1]


def test_without_the_training_set_labels_must_be_named(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    block = write_case(images, "x", 0)
    (run.parent / "train.json").unlink()
    with pytest.raises(SystemExit):
        predict(run, images)
    assert "name --labels, --axis and --skull-stripped or" in capsys.readouterr().err
    output = predict(run, images, "--axis", "0", "--labels", "1", "--no-skull-stripped")
    np.testing.assert_array_equal(np.asarray(nib.load(output / "x.nii.gz").dataobj), block)


def test_problems_tell_what_came_of_it(tmp_path: Path) -> None:
    problems = Problems(tmp_path)
    problems.add("cases without t2", "x")
    with pytest.raises(ValueError, match="was predicted in part\n  cases without t2"):
        problems.raise_if_any("was predicted in part")


def test_images_are_not_written_over(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("x", "x_0001"):  # one of them is the other's second channel
        data = np.random.default_rng(0).normal(100, 5, SHAPE)
        nib.save(nib.Nifti1Image(data.astype(np.float32), AFFINE), images / f"{name}.nii.gz")
    before = {path: path.read_bytes() for path in images.iterdir()}
    for option in ("--force", "--skip-existing"):
        with pytest.raises(SystemExit) as ended:
            main(["--run", str(run), "--layout", "folders", "--images", str(images),
                  "--output", str(images), option])  # fmt: skip
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert "is where the images or their labels are: x would be written over" in told
    assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_a_table_of_another_tool_is_kept(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    write_case(images, "x", 0)
    table = run.parent / "predicted" / "predictions.csv"
    table.parent.mkdir()
    table.write_text("image,score\na.png,0.5\n")
    with pytest.raises(SystemExit):
        predict(run, images)
    assert "has other columns than case, region" in capsys.readouterr().err
    assert table.read_text() == "image,score\na.png,0.5\n"
    predict(run, images, "--force")
    assert table.read_text().startswith("case,region,")
    # Nor is a row of it kept where it tells of cases as well.
    table.write_text("case,dice\nA,0.9\n")
    predict(run, images, "--force")
    cases = [line.split(",")[0] for line in table.read_text().splitlines()]
    assert cases[0] == "case" and set(cases[1:]) == {"x"}


def test_a_case_too_large_for_the_memory_does_not_stop_the_others(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def forward(self: Brightest, items: list[dict]) -> list[dict]:
        if items[0]["case"] == "large":
            torch.empty(2**60)  # more than there can be
        return ask(self, items)

    ask = Brightest.forward
    monkeypatch.setattr(Brightest, "forward", forward)
    for seed, name in enumerate(("good", "large", "x")):
        write_case(images, name, seed)
    with pytest.raises(SystemExit) as ended:
        predict(run, images)
    assert ended.value.code == 2
    assert {path.name for path in (run.parent / "predicted").glob("*.gz")} == {
        "good.nii.gz", "x.nii.gz"
    }  # fmt: skip
    told = capsys.readouterr().err
    assert "memory ran out (1): large (lower model.slices_per_batch" in told


def test_a_case_that_fails_does_not_stop_the_others(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def forward(self: Brightest, items: list[dict]) -> list[dict]:
        if items[0]["case"] == "bad":
            raise ValueError("what nobody thought of")
        return ask(self, items)

    ask = Brightest.forward
    monkeypatch.setattr(Brightest, "forward", forward)
    for seed, name in enumerate(("bad", "good")):
        write_case(images, name, seed)
    with pytest.raises(SystemExit) as ended:
        predict(run, images)
    assert ended.value.code == 2
    assert [path.name for path in (run.parent / "predicted").glob("*.gz")] == ["good.nii.gz"]
    assert "bad (ValueError: what nobody thought of)" in capsys.readouterr().err


def test_true_label_maps_are_not_written_over(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    block = write_case(images, "x", 0)
    truth = images.parent / "labels" / "x.nii.gz"
    truth.parent.mkdir()
    nib.save(nib.Nifti1Image(block.astype(np.uint8), AFFINE), truth)
    before = truth.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["--run", str(run), "--layout", "folders", "--root", str(images.parent),
              "--output", str(truth.parent), "--force"])  # fmt: skip
    assert ended.value.code == 2 and truth.read_bytes() == before
    assert "where the images or their labels are" in capsys.readouterr().err


def test_pixels_of_another_size_are_told(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    index = run.parent / "train.json"
    content = json.loads(index.read_text())
    content["cases"][0] |= {"reference": "t1.nii.gz", "spacing": [3, 3, 1]}
    index.write_text(json.dumps(content))
    write_case(images, "x", 0)
    predict(run, images)
    assert "x has pixels of 1.15 mm, the model was trained on some of 3 to 3 mm" in (
        capsys.readouterr().err
    )


def test_slices_of_another_direction_are_refused(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    index = run.parent / "train.json"
    content = json.loads(index.read_text())
    content["cases"][0] |= {"oriented": True, "affine": np.diag([1, 1, 2, 1]).tolist()}
    index.write_text(json.dumps(content))
    block = write_case(images, "x", 0)  # whose second axis goes from foot to head
    with pytest.raises(SystemExit):
        predict(run, images)
    assert "along axis 2 go from back to front" in capsys.readouterr().err
    output = predict(run, images, "--axis", "1")
    np.testing.assert_array_equal(np.asarray(nib.load(output / "x.nii.gz").dataobj), block)


class Corner(torch.nn.Module):
    """Finds what lies in one corner of each slice, whatever is there."""

    def forward(self, items: list[dict]) -> list[dict]:
        height, width = items[0]["height"], items[0]["width"]
        found = torch.zeros(1, len(items[0]["image"]), height, width)
        found[..., : height // 2, : width // 4] = 1
        return [{"sem_seg": found}]


def test_volumes_that_lie_otherwise_are_turned(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = run.parent / "train.json"
    content = json.loads(index.read_text())
    lps = np.diag([-1, -1, 2, 1]).tolist()
    content["cases"][0] |= {"oriented": True, "affine": lps}
    index.write_text(json.dumps(content))
    cfg = load_config(str(run / "config.yaml"))
    monkeypatch.setattr("inspire_d2.engine.trained.load_trained", lambda *_: (cfg, Corner()))
    data = np.random.default_rng(0).random((8, 12, 4)).astype(np.float32)
    first = nib.Nifti1Image(data, np.array(lps, float))
    for name in ("LPS", "RAS", "ALS", "PRI"):
        steps = nib.orientations.ornt_transform(*map(nib.orientations.axcodes2ornt, ("LPS", name)))
        for channel in range(2):
            nib.save(first.as_reoriented(steps), images / f"{name}_{channel:04d}.nii.gz")
    output = predict(run, images)
    wanted = np.zeros((8, 12, 4))
    wanted[:4, :3] = 1
    for name in ("LPS", "RAS", "ALS", "PRI"):
        found = nib.load(output / f"{name}.nii.gz")
        assert "".join(nib.aff2axcodes(found.affine)) == name
        steps = nib.orientations.ornt_transform(*map(nib.orientations.axcodes2ornt, (name, "LPS")))
        np.testing.assert_array_equal(found.as_reoriented(steps).get_fdata(), wanted, name)


def test_a_run_of_no_volumes(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_case(images, "x", 0)
    cfg = load_config(str(ROOT / "configs/polyp/unet_r18_inspire.py"))
    monkeypatch.setattr("inspire_d2.engine.trained.load_trained", lambda *_: (cfg, Brightest()))
    with pytest.raises(SystemExit) as ended:
        predict(run, images, "--labels", "1", "--axis", "2")
    assert ended.value.code == 2
    assert "segments no volumes (it has no regions): use tools/predict.py" in (
        capsys.readouterr().err
    )


def test_what_no_case_can_be_painted_with_is_told_once(
    run: Path, images: Path, capsys: pytest.CaptureFixture
) -> None:
    write_case(images, "x", 0)
    with pytest.raises(SystemExit) as ended:
        predict(run, images, "--labels", "7")
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "the region lesion ([1]) has no label of its own among the set's [7]" in told.err
    assert "1 of 1" not in told.out
