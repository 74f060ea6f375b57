"""datasets/prepare_polyps.py from its command line to its jsons."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from inspire_d2.data import prepare
from inspire_d2.data.layouts import Pair
from inspire_d2.errors import InputError

TOOL = Path(__file__).resolve().parents[2] / "datasets" / "prepare_polyps.py"
# A job in the background of a shell ignores Ctrl-C, and so would what it starts.
HEED_CTRL_C = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


def run(tool: ModuleType, *arguments: object) -> None:
    tool.main([str(argument) for argument in arguments])


def load(file: Path) -> dict:
    return json.loads(file.read_text())


def test_ratio(kvasir: Path, tool: ModuleType, capsys: pytest.CaptureFixture) -> None:
    Image.new("L", (48, 40)).save(kvasir / "masks" / "a3.png")  # a negative
    run(tool, "--layout", "kvasir", "--root", kvasir, "--ratio", 0.8, "--seed", 3)
    train, val = (load(kvasir / "annotations" / f"{n}.json") for n in ("train", "val"))
    assert (len(train["images"]), len(val["images"])) == (8, 2)
    assert len(train["annotations"]) + len(val["annotations"]) == 9
    for key in ("images", "annotations"):
        ids = [row["id"] for row in train[key] + val[key]]
        assert sorted(ids) == list(range(1, len(ids) + 1))  # one count for the whole set
    assert train["categories"] == [{"id": 1, "name": "polyp", "supercategory": "polyp"}]
    info = train["info"]
    assert info["layout"] == "kvasir"
    assert info["image_root"] == ".."
    assert info["split"] == {"rule": "ratio", "ratio": 0.8, "seed": 3}
    assert info["min_area"] == 30
    assert info["counts"]["images"] == 8
    assert info["digest"].startswith("sha256:")
    assert info["digest"] != val["info"]["digest"]
    assert {"licenses"} < set(train)
    said = capsys.readouterr()
    assert "train.json" in said.out
    assert "val.json" in said.out
    assert "image/s" in said.err
    assert COCO(str(kvasir / "annotations" / "train.json")).getCatIds() == [1]


def test_counts_and_specks(kvasir: Path, tool: ModuleType) -> None:
    mask = np.zeros((40, 48), np.uint8)
    mask[:10, :10] = mask[20:25, 20:26] = 255  # 100 and 30 pixels
    mask[30:35, 30:35] = mask[39, 47] = 255  # 25 and 1
    Image.fromarray(mask).save(kvasir / "masks" / "a0.png")
    run(tool, "--layout", "kvasir", "--root", kvasir, "--all", "test")
    counts = load(kvasir / "annotations" / "test.json")["info"]["counts"]
    assert counts == {
        "images": 10, "positives": 10, "negatives": 0, "polyps": 11, "dropped_specks": 2,
    }  # fmt: skip
    run(tool, "--layout", "kvasir", "--root", kvasir, "--all", "test", "--min-area", 1)
    assert load(kvasir / "annotations" / "test.json")["info"]["counts"]["polyps"] == 13


def test_digest_follows_the_files(kvasir: Path, tool: ModuleType, tmp_path: Path) -> None:
    def digest() -> str:
        run(tool, "--layout", "kvasir", "--root", kvasir, "--all", "x", "--output", tmp_path / "o")
        return load(tmp_path / "o" / "x.json")["info"]["digest"]

    first = digest()
    assert digest() == first
    (kvasir / "images" / "a0.jpg").write_bytes((kvasir / "images" / "a1.jpg").read_bytes())
    second = digest()
    assert second != first
    (kvasir / "masks" / "a0.png").write_bytes((kvasir / "masks" / "a1.png").read_bytes())
    assert digest() not in (first, second)


def test_bytes_do_not_depend_on_jobs(kvasir: Path, tool: ModuleType, tmp_path: Path) -> None:
    outputs = [tmp_path / "one", tmp_path / "two"]
    for jobs, output in enumerate(outputs, 1):
        arguments = ("--layout", "kvasir", "--root", kvasir, "--ratio", 0.5, "--jobs", jobs)
        run(tool, *arguments, "--output", output)
    for name in ("train.json", "val.json"):
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes()


def die(*_: object) -> None:
    os._exit(1)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are not forked here")
def test_a_worker_that_dies(kvasir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "read_pair", die)
    pairs = [Pair(str(i), Path(), Path(), str(i)) for i in range(20)]
    with pytest.raises(InputError, match="a worker process died"):
        prepare._read_all(pairs, 30, 2)


def test_names_with_spaces_and_accents(
    tmp_path: Path, tool: ModuleType, make_folders: Callable[..., None]
) -> None:
    root = tmp_path / "mes données"
    make_folders(root / "images", root / "masks", ["polype n° 1", "息肉 2"])
    run(tool, "--layout", "folders", "--images", root / "images", "--masks", root / "masks",
        "--all", "test")  # fmt: skip
    images = load(root / "annotations" / "test.json")["images"]
    assert [i["file_name"] for i in images] == ["images/polype n° 1.jpg", "images/息肉 2.jpg"]


def test_polypgen_by_centre(
    tmp_path: Path, tool: ModuleType, make_folders: Callable[..., None]
) -> None:
    for centre in ("C1", "C6"):
        folder = tmp_path / f"data_{centre}"
        images, masks = folder / f"images_{centre}", folder / f"masks_{centre}"
        make_folders(images, masks, "ab", mask="{}_mask.png")
    run(tool, "--layout", "polypgen", "--root", tmp_path, "--split-column", "centre",
        "--val-values", "C6")  # fmt: skip
    val = load(tmp_path / "annotations" / "val.json")
    assert [i["file_name"] for i in val["images"]] == [
        f"data_C6/images_C6/{n}.jpg" for n in "ab"
    ]  # fmt: skip
    assert {i["centre"] for i in val["images"]} == {"C6"}
    assert val["info"]["split"] == {"rule": "column", "column": "centre", "val_values": ["C6"]}


def test_random_split_warns_of_centres(
    kvasir: Path, tool: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    rows = [f"a{i},C1,p{i}" for i in range(10)]
    (kvasir / "index.csv").write_text("\n".join(["name,centre,patient", *rows]))
    run(tool, "--layout", "kvasir", "--root", kvasir, "--ratio", 0.5)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "1 of 1 values of centre (C1)" in warnings[0]


def test_lists_leave_the_rest_out(
    kvasir: Path, tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "t").write_text("a0\na1\n")
    (tmp_path / "v").write_text("a2\n")
    lists = ("--train-list", tmp_path / "t", "--val-list", tmp_path / "v")
    run(tool, "--layout", "kvasir", "--root", kvasir, *lists)
    assert len(load(kvasir / "annotations" / "train.json")["images"]) == 2
    assert "7 images are in neither list" in capsys.readouterr().err


def test_pranet(
    tmp_path: Path, tool: ModuleType, make_folders: Callable[..., None], refused
) -> None:
    for part in ("TrainDataset", "TestDataset/Kvasir", "TestDataset/CVC-300"):
        make_folders(tmp_path / part / "images", tmp_path / part / "masks", "12", "{}.png")
    out = tmp_path / "annotations"
    said = refused("--layout", "pranet", "--root", tmp_path, "--ratio", 0.5, output=out)
    assert "take --own-split" in said
    run(tool, "--layout", "pranet", "--root", tmp_path, "--own-split")
    names = ["test.json", "test_CVC-300.json", "test_Kvasir.json", "train.json"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert load(out / names[1])["images"][0]["file_name"] == "TestDataset/CVC-300/images/1.png"
    # The test sets together, each of which is told apart by its name.
    images = {name: load(out / name)["images"] for name in names}
    assert images["test.json"] == images["test_CVC-300.json"] + images["test_Kvasir.json"]
    assert [image["centre"] for image in images["test.json"]] == ["CVC-300"] * 2 + ["Kvasir"] * 2
    assert all("centre" not in image for image in images["train.json"])


def test_everything_wrong_is_told_at_once(
    kvasir: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    (kvasir / "annotations").mkdir()
    (kvasir / "annotations" / "train.json").write_text("old")
    (kvasir / "masks" / "a0.png").unlink()
    (kvasir / "images" / "a1.jpg").unlink()
    Image.new("L", (47, 40)).save(kvasir / "masks" / "a2.png")
    Image.open(kvasir / "images" / "a3.jpg").convert("L").save(kvasir / "masks" / "a3.png")
    cut = (kvasir / "images" / "a4.jpg").read_bytes()[:-300]
    (kvasir / "images" / "a4.jpg").write_bytes(cut)
    (kvasir / "masks" / "a5.png").write_bytes(b"")
    (tmp_path / "t").write_text("a6\nnobody\na7\n")
    (tmp_path / "v").write_text("a7\n")
    for jobs in (1, 2):
        said = refused(
            "--layout", "kvasir", "--root", kvasir, "--jobs", jobs,
            "--train-list", tmp_path / "t", "--val-list", tmp_path / "v",
            output=kvasir / "annotations",
        )  # fmt: skip
        for sentence in (
            "images without a mask (1): images/a0.jpg",
            "masks without an image (1): masks/a1.png",
            "images and masks of different size (1): images/a2.jpg (48x40 and 47x40)",
            "masks that are not black and white (1): masks/a3.png",
            "unreadable images (1): images/a4.jpg",
            "unreadable masks (1): masks/a5.png",
            "names in a list that no image has (1): nobody (t)",
            "names in both lists (1): a7",
        ):
            assert sentence in said


def test_unwritable_output(kvasir: Path, refused: Callable[..., str]) -> None:
    (kvasir / "file").touch()
    out = kvasir / "file" / "annotations"
    said = refused("--layout", "kvasir", "--root", kvasir, "--ratio", 0.5, output=out)
    assert said.startswith("error: the output folder ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "one of the arguments"),
        (["--ratio", "0.5", "--all", "x"], "not allowed with"),
        (["--ratio", "2"], "does not lie between 0 and 1"),
        (["--train-list", "x"], "go together"),
        (["--split-column", "centre"], "go together"),
        (["--all", "x", "--seed", "1"], "--seed belongs to --ratio"),
        (["--all", "x", "--jobs", "0"], "at least 1"),
        (["--all", "x", "--min-area", "0"], "at least 1"),
        (["--all", "a/b"], "no file name"),
        (["--own-split"], "not published with a split"),
        (["--all", "x", "--index", "nowhere.csv"], "cannot be read"),
        (["--split-column", "centre", "--val-values", "C6"], "unknown columns (1): centre"),
        (["--all", "x", "--images", "y"], "belong to --layout folders"),
    ],
)
def test_wrong_options(
    options: list[str], sentence: str, kvasir: Path, refused: Callable[..., str]
) -> None:
    arguments = ("--layout", "kvasir", "--root", kvasir, *options)
    assert sentence in refused(*arguments, output=kvasir / "annotations")


def test_ctrl_c_leaves_nothing(tmp_path: Path, make_folders: Callable[..., None]) -> None:
    root = tmp_path / "kvasir"
    make_folders(root / "images", root / "masks", ["a"], image="{}.png")
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "images" / "a.png", compress_level=1)
    Image.new("L", (800, 800)).save(root / "masks" / "a.png")
    for i in range(1000):  # many seconds of work
        for folder in ("images", "masks"):
            (root / folder / f"b{i}.png").symlink_to("a.png")
    command = [sys.executable, TOOL, "--layout", "kvasir", "--root", root, "--ratio", "0.5"]
    command += ["--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=HEED_CTRL_C) as process:
        said = b""
        while b"reading" not in said and process.poll() is None:
            said += process.stderr.read1()
        process.send_signal(signal.SIGINT)
        said = (said + process.stderr.read()).decode()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1] == "interrupted, nothing was written"
    assert sorted(p.name for p in root.iterdir()) == ["images", "masks"]


def test_real_polypgen(shared_datasets: Path, tool: ModuleType, tmp_path: Path) -> None:
    root = shared_datasets / "polypgen"
    if not root.is_dir():
        pytest.skip(f"no folder polypgen in {shared_datasets}")
    by_centre = ("--split-column", "centre", "--val-values", "C6")
    run(tool, "--layout", "polypgen", "--root", root, *by_centre, "--output", tmp_path)
    train, val = (load(tmp_path / f"{n}.json")["info"]["counts"] for n in ("train", "val"))
    assert val["images"] == 88
    total = {key: train[key] + val[key] for key in train}
    assert total == {
        "images": 1537, "positives": 1411, "negatives": 126, "polyps": 1619, "dropped_specks": 13,
    }  # fmt: skip
