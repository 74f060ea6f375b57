"""Polyp detection: PolypGen by hospital, images without a polyp included."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import DatasetEvaluators
from omegaconf import OmegaConf

from inspire_d2.data import CheckedMapper, build_train_loader, polyp_dataset
from inspire_d2.evaluation import InspireCOCOEvaluator, PolypEvaluator

dataloader = OmegaConf.create()

dataloader.train = L(build_train_loader)(
    dataset=L(polyp_dataset)(name="polypgen_train"),
    mapper=L(CheckedMapper)(
        is_train=True,
        augmentations=[
            L(T.ResizeShortestEdge)(
                short_edge_length=(224, 256, 288), sample_style="choice", max_size=384
            ),
            L(T.RandomFlip)(horizontal=True, vertical=False),
            L(T.RandomFlip)(horizontal=False, vertical=True),
            L(T.RandomBrightness)(intensity_min=0.8, intensity_max=1.2),
            L(T.RandomContrast)(intensity_min=0.8, intensity_max=1.2),
        ],
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    ),
    total_batch_size=4,
    num_workers=2,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(polyp_dataset)(name="polypgen_val"),
    mapper=L(CheckedMapper)(
        is_train=False,
        augmentations=[L(T.ResizeShortestEdge)(short_edge_length=256, max_size=384)],
        image_format="${...train.mapper.image_format}",
    ),
    num_workers=2,
)

dataloader.evaluator = L(DatasetEvaluators)(
    evaluators=[
        L(evaluator)(
            dataset_name="${dataloader.test.dataset.name}", output_dir="${train.output_dir}"
        )
        for evaluator in (InspireCOCOEvaluator, PolypEvaluator)
    ]
)
