"""COCO 2017 things and stuff; datasets/README.md says how its maps are made."""

from detectron2.config import LazyCall as L
from detectron2.evaluation import COCOPanopticEvaluator, DatasetEvaluators, SemSegEvaluator

from inspire_d2.evaluation import InspireCOCOEvaluator

from .coco import dataloader

dataloader.train.dataset.names = "coco_2017_train_panoptic_separated"
# images of stuff alone train the semantic head
dataloader.train.dataset.filter_empty = False
dataloader.test.dataset.names = "coco_2017_val_panoptic_separated"
dataloader.evaluator = L(DatasetEvaluators)(
    evaluators=[
        L(evaluator)(
            dataset_name="${dataloader.test.dataset.names}", output_dir="${train.output_dir}"
        )
        for evaluator in (InspireCOCOEvaluator, SemSegEvaluator, COCOPanopticEvaluator)
    ]
)
