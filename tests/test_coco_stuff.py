"""COCO's trees with stuff, as Detectron2's preparation leaves them: trained on and scored."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic_separated
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES, _get_builtin_metadata

from inspire_d2.engine.checks import check_datasets
from inspire_d2.engine.trainer import run_training
from inspire_d2.errors import InputError

from .test_coco_configs import load_small

HEIGHT, WIDTH = 64, 80
BOX = (10, 20, 30, 25)  # left, top, width, height of a person
SKY = 187
SCORED = {
    "semantic_r50_inspire_1x": {"sem_seg"},
    "panoptic_r50_inspire_1x": {"bbox", "segm", "sem_seg", "panoptic_seg"},
    "htc_r50_inspire_1x": {"bbox", "segm"},
}


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    """Register three images, a person before the sky in each."""
    for folder in ("images", "panoptic", "stuff"):
        (tmp_path / folder).mkdir()
    left, top, width, height = BOX
    person = np.zeros((HEIGHT, WIDTH), np.uint8)
    person[top : top + height, left : left + width] = 1
    metadata = _get_builtin_metadata("coco_panoptic_separated")
    sky = metadata["stuff_dataset_id_to_contiguous_id"][SKY]
    images, objects, segments = [], [], []
    for number in range(1, 4):
        name = f"{number:012d}"
        images.append({"id": number, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
        seed = np.random.default_rng(number)
        picture = seed.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), picture)
        cv2.imwrite(str(tmp_path / f"stuff/{name}.png"), np.where(person, 0, sky))
        # An id is red + 256 green + 65536 blue: 1 the person's, 2 the sky's.
        ids = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        ids[..., 2] = np.where(person, 1, 2)
        cv2.imwrite(str(tmp_path / f"panoptic/{name}.png"), ids)
        one = {"image_id": number, "category_id": 1, "iscrowd": 0, "bbox": BOX}
        outline = [left, top, left + width, top, left + width, top + height, left, top + height]
        shape = {"area": width * height, "segmentation": [outline]}
        objects.append(one | shape | {"id": number})
        infos = [
            {"id": 1, "category_id": 1, "iscrowd": 0, "area": int(person.sum()), "bbox": BOX},
            {"id": 2, "category_id": SKY, "iscrowd": 0, "area": int((person == 0).sum()),
             "bbox": [0, 0, WIDTH, HEIGHT]},
        ]  # fmt: skip
        segments.append({"image_id": number, "file_name": f"{name}.png", "segments_info": infos})
    kinds = [{key: one[key] for key in ("id", "name", "isthing")} for one in COCO_CATEGORIES]
    things = [one for one in kinds if one["isthing"]]
    for file, annotations, categories in (
        ("instances", objects, things),
        ("panoptic", segments, kinds),
    ):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / f"{file}.json").write_text(json.dumps(content))
    paths = ("images", "panoptic", "panoptic.json", "stuff", "instances.json")
    register_coco_panoptic_separated("tiny", metadata, *(str(tmp_path / path) for path in paths))
    yield "tiny"
    for kind in ("separated", "stuffonly"):
        DatasetCatalog.remove(f"tiny_{kind}")
        MetadataCatalog.remove(f"tiny_{kind}")


@pytest.mark.slow
@pytest.mark.parametrize("config", SCORED)
def test_trains_on_stuff_and_is_scored(name: str, config: str, tmp_path: Path) -> None:
    cfg = load_small(config)
    for part in ("train", "test"):
        stuff = cfg.dataloader[part].dataset.names.endswith("_stuffonly")
        kind = "stuffonly" if stuff else "separated"
        cfg.dataloader[part].dataset.names = f"{name}_{kind}"
    cfg.train.output_dir = str(tmp_path / "run")
    (tmp_path / "run").mkdir()
    check_datasets(cfg, ("train", "test"))
    results = run_training(cfg)
    assert results.keys() == SCORED[config]
    assert all(math.isfinite(v) for k, v in results.get("panoptic_seg", {}).items() if k == "PQ")
    line = json.loads((tmp_path / "run/metrics.json").read_text().splitlines()[0])
    assert math.isfinite(line["total_loss"])


def test_panopticapi_that_is_missing_is_told_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = load_small("panoptic_r50_inspire_1x")
    for part in ("train", "test"):
        cfg.dataloader[part].dataset.names = f"{name}_separated"
    monkeypatch.setitem(sys.modules, "panopticapi", None)
    monkeypatch.setattr("inspire_d2.engine.checks.find_spec", lambda _: None)
    with pytest.raises(InputError, match="panopticapi, which is not there: pip install"):
        check_datasets(cfg, ("train", "test"))


@pytest.mark.parametrize("missing", ["stuff", "panoptic"])
def test_maps_that_are_not_there_are_told_before(name: str, missing: str, tmp_path: Path) -> None:
    cfg = load_small("panoptic_r50_inspire_1x")
    for part in ("train", "test"):
        cfg.dataloader[part].dataset.names = f"{name}_separated"
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    told = f"data set {name}_separated: {tmp_path}/{missing} does not exist; put the data there"
    with pytest.raises(InputError, match=told):
        check_datasets(cfg, ("train", "test"))
    if missing == "panoptic":  # nothing of it is trained on
        check_datasets(cfg, ("train",))
