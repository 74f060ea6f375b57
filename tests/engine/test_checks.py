"""A COCO user's wrong json or image ends train_net.py with one sentence and exit code 2."""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from omegaconf import DictConfig, OmegaConf

from inspire_d2.data import mri_dataset, mri_prepare, prepare, splits
from inspire_d2.data.mri_splits import AllPatients
from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.engine.build import build
from inspire_d2.engine.checks import check_datasets
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    write_synthetic_set(root, 8, seed=3, size=96)
    prepare.prepare_polyps("kvasir", root, splits.RatioSplit(0.5, 0), root / "annotations")
    return root


@pytest.fixture
def registered(data: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Register the training set, changed, as COCO users do; returns its name."""
    names = []

    def register(change: Change = lambda c: None) -> str:
        content = json.loads((data / "annotations/train.json").read_text())
        change(content)
        name = f"{tmp_path.name}_{len(names)}"
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(content))
        register_coco_instances(name, {}, str(file), str(data))
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def coco_config(config: str, train: str, test: str, *overrides: str) -> DictConfig:
    return load_config(
        str(REPOSITORY / f"configs/coco/{config}.py"),
        [f"dataloader.train.dataset.names={train}", f"dataloader.test.dataset.names={test}"]
        + list(overrides),
    )


BITMASK = "dataloader.train.mapper.instance_mask_format=bitmask"


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ("mask_rcnn_r50_inspire_1x", "model.roi_heads.num_classes"),
        ("cascade_mask_rcnn_r50_fpn_1x", "model.roi_heads.num_classes"),
        ("htc_r50_inspire_1x", "model.roi_heads.num_classes"),
        ("panoptic_r50_fpn_1x", "model.roi_heads.num_classes"),
        ("retinanet_r50_inspire_1x", "model.num_classes"),
    ],
)
def test_number_of_classes(registered: Callable[..., str], config: str, key: str) -> None:
    name = registered()
    with pytest.raises(InputError, match=f"1 categories .polyp.*80 classes: set {key}=1"):
        check_datasets(coco_config(config, name, name, BITMASK), ("train", "test"))
    check_datasets(coco_config(config, name, name, BITMASK, f"{key}=1"), ("train", "test"))


def test_pixel_classes_are_one_more(data: Path) -> None:
    cfg = load_config(str(REPOSITORY / "configs/polyp/semantic_fpn_r18_inspire.py"))
    cfg.dataloader.train.dataset.update(
        name=f"{data.name}_pixels", json_file=str(data / "annotations/train.json")
    )
    check_datasets(cfg, ("train",))
    cfg.model.sem_seg_head.num_classes = 3
    with pytest.raises(InputError, match=r"and a background.*set model.sem_seg_head.num_classes=2"):
        check_datasets(cfg, ("train",))


def test_masks_must_be_read_as_they_are(registered: Callable[..., str]) -> None:
    name = registered()
    model = "model.roi_heads.num_classes=1"
    config = coco_config("mask_rcnn_r50_fpn_1x", name, name, model)
    with pytest.raises(InputError, match="whose mask is RLE.*instance_mask_format=bitmask"):
        check_datasets(config, ("train",))
    check_datasets(config, ("test",))
    check_datasets(coco_config("faster_rcnn_r50_fpn_1x", name, name, model), ("train", "test"))
    bare = registered(lambda c: [a.pop("segmentation") for a in c["annotations"]])
    for split in ("train", "test"):
        with pytest.raises(InputError, match="without a segmentation"):
            check_datasets(
                coco_config("mask_rcnn_r50_fpn_1x", bare, bare, model, BITMASK), (split,)
            )
    check_datasets(coco_config("faster_rcnn_r50_fpn_1x", bare, bare, model), ("train", "test"))


def test_training_needs_an_object(registered: Callable[..., str]) -> None:
    def crowds_alone(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1

    model = "model.roi_heads.num_classes=1"
    for change in (crowds_alone, lambda c: c["annotations"].clear()):
        name = registered(change)
        with pytest.raises(InputError, match="no image has an object.*filter_empty=False"):
            check_datasets(coco_config("faster_rcnn_r50_fpn_1x", name, name, model), ("train",))
        keep = "dataloader.train.dataset.filter_empty=False"
        check_datasets(coco_config("faster_rcnn_r50_fpn_1x", name, name, model, keep), ("train",))
        check_datasets(coco_config("faster_rcnn_r50_fpn_1x", name, name, model), ("test",))


def test_train_and_test_number_classes_alike(registered: Callable[..., str]) -> None:
    two = [{"id": 1, "name": "polyp"}, {"id": 2, "name": "tool"}]
    train = registered(lambda c: c.update(categories=two))
    test = registered(lambda c: c.update(categories=[{**two[0], "id": 2}, {**two[1], "id": 1}]))
    config = coco_config("faster_rcnn_r50_fpn_1x", train, test, "model.roi_heads.num_classes=2")
    with pytest.raises(InputError, match="the same categories under different ids"):
        check_datasets(config, ("train", "test"))


def test_a_json_of_the_catalogue_is_checked(registered: Callable[..., str]) -> None:
    name = registered(lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 4]))
    with pytest.raises(InputError, match="negative width or height"):
        check_datasets(coco_config("faster_rcnn_r50_fpn_1x", name, name), ("test",))


def command(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Do what ``python train_net.py`` does, its exit included."""
    monkeypatch.setattr(sys, "argv", ["train_net.py", *options])
    runpy.run_path(str(REPOSITORY / "train_net.py"), run_name="__main__")


def small_run(data: Path, output: Path, train_json: Path) -> list[str]:
    return [
        "--config-file",
        str(REPOSITORY / "configs/polyp/demo_mask_rcnn_inspire.py"),
        f"dataloader.train.dataset={{name:{output.parent.name},json_file:{train_json}}}",
        f"dataloader.test.dataset={{name:{data.name}_v,json_file:{data}/annotations/val.json}}",
        f"train.output_dir={output}",
        "train.max_iter=3",
        "train.device=cpu",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=1",
    ]


def test_scoring_needs_the_name_of_a_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_final.pth").touch()
    options = small_run(data, tmp_path / "run", data / "annotations/train.json")
    for value in ("", "null"):  # as of a shell's variable that is not set
        with pytest.raises(SystemExit) as stop:
            command(monkeypatch, "--eval-only", *options, f"train.init_checkpoint={value}")
        assert stop.value.code == 2
        assert "names no file; leave it out" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('dataloader.train.dataset["json"] = "x"', "polyp_dataset, the data set of the config: "),
        ("del dataloader.train.dataset.name", "missing a required argument: 'name'"),
        ("train.checkpointer.keep = 3", "train.checkpointer: got an unexpected keyword argument"),
    ],
)
def test_wrong_argument_in_a_config_of_ones_own(
    line: str,
    sentence: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    options = small_run(data, tmp_path / "run", data / "annotations/train.json")
    cfg = load_config(options[1], options[2:])
    exec(line, {"dataloader": cfg.dataloader, "train": cfg.train})
    save_config(cfg, str(tmp_path / "mine.yaml"))
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, "--config-file", str(tmp_path / "mine.yaml"))
    error = capfd.readouterr().err
    assert stop.value.code == 2
    assert sentence in error and "Traceback" not in error


def own_json(data: Path, tmp_path: Path, change: Change) -> Path:
    content = json.loads((data / "annotations/train.json").read_text())
    content["info"]["image_root"] = str(data)
    change(content)
    (tmp_path / "my.json").write_text(json.dumps(content))
    return tmp_path / "my.json"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["categories"].append({"id": 9, "name": "tool"}), "has 2 categories"),
        (lambda c: c["annotations"][0].update(bbox=[900, 900, 5, 5]), "lies outside its image"),
        (
            lambda c: (c["annotations"].clear(), c["images"][0].update(width=95)),
            "its annotations are for 95x",
        ),
    ],
)
def test_wrong_json_ends_with_code_2(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    change: Change,
    sentence: str,
) -> None:
    json_file = own_json(data, tmp_path, change)
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, *small_run(data, tmp_path / "run", json_file))
    error = capfd.readouterr().err
    assert stop.value.code == 2
    assert error.splitlines()[-1].startswith("error: ") and sentence in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_image_that_breaks_off_ends_with_code_2(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def with_half_images(content: dict[str, Any]) -> None:
        for image in content["images"]:
            whole = (data / image["file_name"]).read_bytes()
            path = tmp_path / Path(image["file_name"]).name
            path.write_bytes(whole[: len(whole) * 2 // 3])
            image["file_name"] = str(path)

    json_file = own_json(data, tmp_path, with_half_images)
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, *small_run(data, tmp_path / "run", json_file))
    output = capfd.readouterr()
    assert stop.value.code == 2
    last = output.err.strip().splitlines()[-1]
    assert last.startswith(f"error: image {tmp_path}") and "is truncated" in last
    assert "Traceback" not in output.err + output.out


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("dataloader.evaluator.threshold=1.5", "threshold must be 0..1, got 1.5"),
        ("dataloader.evaluator={write_predictions: True, output_dir: null}", "give an output_dir"),
    ],
)
def test_an_evaluator_of_volumes_that_cannot_be_built(override: str, sentence: str) -> None:
    cfg = load_config("configs/mri/atlas_unet_plain.py", [override])
    with pytest.raises(InputError, match=sentence):
        check_datasets(cfg, ())


def test_prepared_mri(tmp_path: Path) -> None:
    for name, data in (("images", np.arange(8)), ("labels", np.ones(8))):
        (tmp_path / name).mkdir()
        volume = nib.Nifti1Image(data.astype(np.uint8).reshape(2, 2, 2), np.eye(4))
        nib.save(volume, tmp_path / name / "case.nii")
    mri_prepare.prepare_mri("folders", tmp_path, AllPatients("train"), tmp_path / "prepared")
    index = tmp_path / "prepared/train.json"
    dataset = L(mri_dataset)(name="mine", index=str(index))
    loaders = {split: {"dataset": dataset} for split in ("train", "test")}
    cfg = OmegaConf.create({"dataloader": loaders}, flags={"allow_objects": True})
    check_datasets(cfg, ("train", "test"))
    loaders = {"train": {"dataset": {"joined": [dataset, dataset]}}}
    joined = OmegaConf.create({"dataloader": loaders}, flags={"allow_objects": True})
    check_datasets(joined, ("train",))
    content = json.loads(index.read_text())
    content["cases"][0]["label"] = None
    index.write_text(json.dumps(content))
    check_datasets(cfg, ("test",))
    with pytest.raises(InputError, match="cannot be trained on, 1 cases of .* have no label"):
        check_datasets(cfg, ("train",))
    (tmp_path / "prepared/cases/case.image.npy").unlink()
    with pytest.raises(InputError, match="case.image.npy is missing"):
        check_datasets(cfg, ("test",))
    cfg.dataloader.test.dataset = L(mri_dataset)(name="none_test")
    with pytest.raises(InputError, match="no data set 'none_test'"):
        check_datasets(cfg, ("test",))


def test_what_a_config_calls_must_be_there() -> None:
    cfg = load_config("configs/mri/atlas_unet_plain.py", ["dataloader.evaluator._target_=foo.Bar"])
    with pytest.raises(InputError, match="_target_=foo.Bar of the config: "):
        check_datasets(cfg, ())
    cfg = load_config("configs/mri/atlas_unet_plain.py", ["model.backbone._target_=foo.Bar"])
    with pytest.raises(InputError, match="model of the config cannot be built: ImportError: .*foo"):
        build(cfg.model, "model")
