"""Predictions of two processes score what one process with all of them scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

from inspire_d2.errors import InputError
from inspire_d2.evaluation import InspireCOCOEvaluator

SIDE = 64
IMAGES = (1, 2, 3, 4, 5)
# The images of the first and of the second process; nothing is found on image 3.
SHARES = {
    "half": ((1, 2, 3), (4, 5)),
    "mixed": ((5, 3, 1), (4, 2)),
    "all on the first": (IMAGES, ()),
    "all on the second": ((), IMAGES),
    "nothing found on the first": ((3,), (1, 2, 4, 5)),
    "nothing found": ((), (3,)),
    "no image": ((), ()),
}


def write_truth(path: Path) -> None:
    annotations = [
        {
            "id": 2 * image_id + k,
            "image_id": image_id,
            "category_id": k + 1,
            "bbox": [x, y, 20, 20],
            "area": 400,
            "iscrowd": 0,
            "segmentation": [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]],
        }
        for image_id in IMAGES
        for k, (x, y) in enumerate(((5, 5), (35, 30)))
    ]
    content = {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in IMAGES],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "flat"}, {"id": 2, "name": "round"}],
    }
    path.write_text(json.dumps(content))


def predict(image_id: int) -> Instances:
    """Both objects, moved a little, of a random score; none on image 3."""
    if image_id == 3:
        boxes = torch.zeros(0, 4)
    else:
        rng = np.random.default_rng(image_id)
        corners = torch.tensor([[5.0, 5.0], [35.0, 30.0]]) + torch.from_numpy(
            rng.integers(-5, 6, (2, 2))
        )
        boxes = torch.cat([corners, corners + 20], dim=1).float()
    masks = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(
        (SIDE, SIDE),
        pred_boxes=Boxes(boxes),
        scores=torch.tensor([0.1 * image_id, 1 - 0.1 * image_id])[: len(boxes)],
        pred_classes=torch.tensor([0, 1])[: len(boxes)],
        pred_masks=masks,
    )


def evaluate(truth: Path, images: tuple[int, ...], distributed: bool) -> dict:
    name = "coco_test_ranks"
    MetadataCatalog.pop(name, None)
    MetadataCatalog.get(name).set(
        json_file=str(truth),
        thing_classes=["flat", "round"],
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1},
    )
    # Not hotcoco: a fork loses its threads, which another test may have started, and would wait.
    evaluator = InspireCOCOEvaluator(name, distributed=distributed, backend="pycocotools")
    for image_id in images:
        evaluator.process([{"image_id": image_id}], [{"instances": predict(image_id)}])
    try:
        return evaluator.evaluate()
    finally:
        MetadataCatalog.pop(name)


def _score_shares(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2
    )
    comm.create_local_process_group(2)
    found = {}
    for name, shares in SHARES.items():
        try:
            found[name] = evaluate(folder / "truth.json", shares[rank], distributed=True)
        except InputError as error:
            found[name] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth, and what each of two processes found of each share."""
    path = tmp_path_factory.mktemp("ranks")
    write_truth(path / "truth.json")
    # Forked: a spawned process would import torch and Detectron2 anew, which is slow.
    mp.start_processes(_score_shares, args=(path,), nprocs=2, start_method="fork")
    return path


def found_by_both(folder: Path, name: str) -> list:
    return [json.loads((folder / f"{rank}.json").read_text())[name] for rank in (0, 1)]


@pytest.mark.parametrize("name", list(SHARES)[:5])
def test_two_processes_score_what_one_does(folder: Path, name: str) -> None:
    main, other = found_by_both(folder, name)
    expected = evaluate(folder / "truth.json", IMAGES, distributed=False)
    assert 5 < expected["segm"]["AP"] < 95 and expected["segm"]["AP-flat"] > 0
    assert other == {}
    assert main.keys() == expected.keys() == {"bbox", "segm"}
    for task, metrics in expected.items():
        assert main[task] == pytest.approx(metrics, nan_ok=True, abs=1e-9)


def test_one_process_knows_of_masks_from_the_other(folder: Path) -> None:
    main, other = found_by_both(folder, "nothing found")
    assert main["bbox"]["AP"] == main["segm"]["AP"] == 0 and other == {}


def test_no_image_anywhere_is_told_by_both(folder: Path) -> None:
    for message in found_by_both(folder, "no image"):
        assert "no image of 'coco_test_ranks' was evaluated" in message
