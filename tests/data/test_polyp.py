"""Registered data sets: found, checked, loaded, evaluated by Detectron2."""

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BitMasks, Instances
from PIL import Image

from inspire_d2.data import POLYP_SETS, check_polyp_dataset, polyp_dataset, register_polyps
from inspire_d2.errors import InputError


@pytest.fixture
def name() -> str:
    """A name that no other test has registered."""
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture
def prepared(kvasir: Path, tool: ModuleType) -> Path:
    """The json of ten images with a polyp each, but for a3, which has none."""
    Image.new("L", (48, 40)).save(kvasir / "masks" / "a3.png")
    tool.main(["--layout", "kvasir", "--root", str(kvasir), "--all", "test"])
    return kvasir / "annotations" / "test.json"


def masks_of(json_file: Path) -> dict[str, np.ndarray]:
    folder = json_file.parents[1] / "masks"
    return {path.stem: np.asarray(Image.open(path)) > 127 for path in folder.iterdir()}


def test_masks_survive_the_round_trip(prepared: Path, name: str) -> None:
    records = polyp_dataset(name, str(prepared))
    assert len(records) == 10
    mapper = DatasetMapper(
        True, augmentations=[], image_format="BGR", use_instance_mask=True,
        instance_mask_format="bitmask",
    )  # fmt: skip
    for record in records:
        expected = masks_of(prepared)[Path(record["file_name"]).stem]
        instances = mapper(record)["instances"]
        assert len(instances) == expected.any()
        if expected.any():
            np.testing.assert_array_equal(instances.gt_masks.tensor[0].numpy(), expected)
            assert instances.gt_classes.tolist() == [0]


def test_metadata_and_evaluator(prepared: Path, name: str) -> None:
    register_polyps(name, str(prepared))
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "coco"
    assert metadata.thing_classes == ["polyp"]
    assert metadata.json_file == str(prepared)
    records = polyp_dataset(name)
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0}
    evaluator = COCOEvaluator(name, ("bbox", "segm"), False, use_fast_impl=False)
    evaluator.reset()
    for record in records:
        mask = masks_of(prepared)[Path(record["file_name"]).stem]
        found = BitMasks(mask[None][: int(mask.any())])
        instances = Instances(mask.shape, pred_masks=found.tensor)
        instances.pred_boxes = found.get_bounding_boxes()
        instances.scores = torch.ones(len(found))
        instances.pred_classes = torch.zeros(len(found), dtype=torch.long)
        evaluator.process([record], [{"instances": instances}])
    results = evaluator.evaluate()
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP"] == pytest.approx(100)


def test_built_in_names() -> None:
    expected = {
        *(f"{s}_{p}" for s in ("kvasir", "cvc_clinicdb", "polypgen") for p in ("train", "val")),
        *(f"synthetic_polyps_{p}" for p in ("train", "val")),
        "pranet_train",
        "pranet_test",
        *(f"pranet_test_{s}" for s in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "Kvasir")),
        "pranet_test_ETIS-LaribPolypDB",
    }
    assert {f"{s}_{split}" for s, (splits, _) in POLYP_SETS.items() for split in splits} == expected
    assert expected <= set(DatasetCatalog.list())


def test_own_json_in_a_lazy_config(prepared: Path, name: str) -> None:
    config = LazyCall(polyp_dataset)(name=name, json_file=str(prepared))
    assert instantiate(config) == instantiate(config)


def test_a_name_belongs_to_one_file(prepared: Path, name: str) -> None:
    register_polyps(name, str(prepared))
    register_polyps(name, str(prepared))
    for call in (polyp_dataset, check_polyp_dataset):
        with pytest.raises(InputError, match="taken by"):
            call(name, str(prepared.with_name("other.json")))
        with pytest.raises(InputError, match="taken"):
            call("kvasir_train", str(prepared))
        with pytest.raises(InputError, match="there is no data set 'nobody'"):
            call("nobody")
    with pytest.raises(InputError, match="taken"):
        register_polyps(name, str(prepared), str(prepared.parent))
    for call in (polyp_dataset, check_polyp_dataset):
        with pytest.raises(InputError, match="needs its json_file"):
            call(name, image_root="x")


def test_the_folder_can_be_moved(prepared: Path, name: str, tmp_path: Path) -> None:
    shutil.move(prepared.parents[1], tmp_path / "elsewhere")
    json_file = tmp_path / "elsewhere" / "annotations" / "test.json"
    assert len(polyp_dataset(name, str(json_file))) == 10


def test_built_in_set_is_found_late(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "cvc_clinicdb"
    for call in (polyp_dataset, check_polyp_dataset):
        with pytest.raises(InputError, match=f"prepare_polyps.py --root {root} --layout cvc"):
            call("cvc_clinicdb_val")
    shutil.copytree(prepared.parents[1], root)
    (root / "annotations" / "test.json").rename(root / "annotations" / "val.json")
    check_polyp_dataset("cvc_clinicdb_val")
    records = polyp_dataset("cvc_clinicdb_val")
    assert records[0]["file_name"] == str(root / "images" / "a0.jpg")
    assert MetadataCatalog.get("cvc_clinicdb_val").json_file == str(root / "annotations/val.json")


def test_json_here_images_there(
    kvasir: Path, tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "datasets" / "synthetic_polyps" / "annotations"
    tool.main(
        ["--layout", "kvasir", "--root", str(kvasir), "--ratio", "0.8", "--output", str(output)]
    )
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "read-only"))
    assert polyp_dataset("synthetic_polyps_val")[0]["file_name"].startswith(str(kvasir))
    shutil.copytree(kvasir, tmp_path / "read-only" / "synthetic_polyps")
    (first, *_) = polyp_dataset("synthetic_polyps_val")
    assert first["file_name"].startswith(str(tmp_path / "read-only"))


@pytest.mark.parametrize("copies", [1, 5])  # few images are asked for one by one, many are listed
def test_missing_images(prepared: Path, name: str, copies: int) -> None:
    images = prepared.parents[1] / "images"
    content = json.loads(prepared.read_text())
    for i in range(1, copies):
        for image in content["images"][:10]:
            new = {
                **image,
                "id": image["id"] + 100 * i,
                "file_name": f"images/{i}.jpg{image['id']}",
            }
            content["images"].append(new)
            (prepared.parents[1] / new["file_name"]).touch()
    prepared.write_text(json.dumps(content))
    check_polyp_dataset(name, str(prepared))
    for path in images.glob("a*.jpg"):
        path.unlink()
    (images / "a9.jpg").mkdir() if copies == 1 else None
    for call in (check_polyp_dataset, polyp_dataset):
        with pytest.raises(InputError, match=f"10 of {10 * copies} images of .*a0.jpg.*a9.jpg$"):
            call(name, str(prepared))
    shutil.rmtree(images)
    with pytest.raises(InputError, match="and .* more$" if copies > 1 else "a9.jpg$"):
        check_polyp_dataset(name, str(prepared))


Change = Callable[[dict[str, Any]], object]
BROKEN: dict[str, tuple[Change, str]] = {
    "no images": (lambda c: c["images"].clear(), "no list of images"),
    "no annotations": (lambda c: c.pop("annotations"), "no list of annotations"),
    "no category": (lambda c: c["categories"].clear(), "no list of categories"),
    "no size": (lambda c: c["images"][0].pop("width"), "one of its images lacks one of"),
    "no box": (lambda c: c["annotations"][0].pop("bbox"), "one of its annotations lacks one of"),
    "same id": (lambda c: c["images"].append(c["images"][0]), "images have the same id"),
    "lost image": (
        lambda c: c["annotations"][0].update(image_id=99),
        "1 annotations have a image_id",
    ),
    "lost class": (lambda c: c["annotations"][0].update(category_id=2), "have a category_id"),
    "no root": (lambda c: c.pop("info"), "give image_root"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_jsons(what: str, prepared: Path, name: str) -> None:
    change, sentence = BROKEN[what]
    content = json.loads(prepared.read_text())
    change(content)
    prepared.write_text(json.dumps(content))
    for call in (check_polyp_dataset, polyp_dataset):
        with pytest.raises(InputError, match=sentence):
            call(name, str(prepared))


def test_what_is_no_json(prepared: Path, name: str) -> None:
    for text, sentence in (("{", "not a json"), ("[]", "not a COCO json"), ("3", "not a COCO")):
        prepared.write_text(text)
        with pytest.raises(InputError, match=sentence):
            check_polyp_dataset(name, str(prepared))
    prepared.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        check_polyp_dataset(name, str(prepared))


def test_other_class_names_are_kept(prepared: Path, name: str) -> None:
    content = json.loads(prepared.read_text())
    content["categories"] = [{"id": 1, "name": "adenoma"}, {"id": 7, "name": "other"}]
    del content["info"]
    prepared.write_text(json.dumps(content))
    polyp_dataset(name, str(prepared), str(prepared.parents[1]))
    assert MetadataCatalog.get(name).thing_classes == ["adenoma", "other"]
