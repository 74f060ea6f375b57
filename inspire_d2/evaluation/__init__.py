"""Evaluators: COCO AP and polyp metrics."""

from inspire_d2.evaluation.coco import InspireCOCOEvaluator
from inspire_d2.evaluation.polyp import PolypEvaluator

__all__ = ["InspireCOCOEvaluator", "PolypEvaluator"]
