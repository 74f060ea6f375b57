"""COCO 2017 instances, as in Detectron2's baselines."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from inspire_d2.data import CheckedMapper, build_train_loader
from inspire_d2.evaluation import InspireCOCOEvaluator

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train._target_ = build_train_loader

for _loader in (dataloader.train, dataloader.test):
    _loader.mapper._target_ = CheckedMapper

dataloader.evaluator = L(InspireCOCOEvaluator)(
    dataset_name="${dataloader.test.dataset.names}", output_dir="${train.output_dir}"
)
