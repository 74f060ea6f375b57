"""Data sets; importing this package registers the polyp sets with Detectron2 by name."""

from inspire_d2.data.loader import ResumableLoader, build_train_loader
from inspire_d2.data.mapper import CheckedMapper
from inspire_d2.data.polyp import (
    POLYP_SETS,
    check_polyp_dataset,
    polyp_dataset,
    register_polyps,
)

__all__ = [
    "CheckedMapper",
    "POLYP_SETS",
    "ResumableLoader",
    "build_train_loader",
    "check_polyp_dataset",
    "polyp_dataset",
    "register_polyps",
]
