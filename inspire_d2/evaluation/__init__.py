"""Evaluators: COCO AP, polyp metrics, and metrics of whole volumes."""

from inspire_d2.evaluation.coco import InspireCOCOEvaluator
from inspire_d2.evaluation.polyp import PolypEvaluator
from inspire_d2.evaluation.volume import VolumeEvaluator

__all__ = ["InspireCOCOEvaluator", "PolypEvaluator", "VolumeEvaluator"]
