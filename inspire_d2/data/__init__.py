"""Data sets; importing this package registers the polyp sets with Detectron2 by name."""

from inspire_d2.data.loader import ResumableLoader, build_train_loader
from inspire_d2.data.mapper import CheckedMapper
from inspire_d2.data.mri import check_mri_dataset, mri_dataset
from inspire_d2.data.mri_mapper import MriMapper
from inspire_d2.data.polyp import (
    POLYP_SETS,
    check_polyp_dataset,
    polyp_dataset,
    register_polyps,
)

__all__ = [
    "CheckedMapper",
    "MriMapper",
    "POLYP_SETS",
    "ResumableLoader",
    "build_train_loader",
    "check_mri_dataset",
    "check_polyp_dataset",
    "mri_dataset",
    "polyp_dataset",
    "register_polyps",
]
