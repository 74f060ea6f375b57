"""How the patients of an MRI set are divided: at random, by a list, or not at all."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from inspire_d2.data.mri_layouts import Case
from inspire_d2.errors import InputError, first_few

__all__ = ["AllPatients", "PatientList", "PatientRatio", "PatientSplit"]


class PatientSplit(Protocol):
    """A rule that says for each patient which part, and so which index, its cases go to."""

    def divide(self, cases: Sequence[Case]) -> dict[str, list[Case]]:
        """Return the parts; raises InputError where the rule does not fit the patients."""

    def describe(self) -> dict[str, Any]:
        """Return the rule as it is written into the index."""


@dataclass(frozen=True)
class PatientRatio:
    """A random share ``val_ratio`` (0..1) of the patients for val, the rest for train.

    The order is that of the sha256 of seed and patient: the same on every machine.
    """

    val_ratio: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.val_ratio < 1:
            raise InputError(f"--val-ratio {self.val_ratio} does not lie between 0 and 1")

    def divide(self, cases: Sequence[Case]) -> dict[str, list[Case]]:
        patients = sorted({case.patient for case in cases}, key=self._rank)
        count = min(max(round(self.val_ratio * len(patients)), 1), len(patients) - 1)
        if count < 1:
            raise InputError(
                f"--val-ratio divides patients, but all cases are of one ({first_few(patients)})"
            )
        return _two_parts(cases, set(patients[:count]))

    def _rank(self, patient: str) -> str:
        return hashlib.sha256(f"{self.seed}:{patient}".encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        return {"rule": "ratio", "val_ratio": self.val_ratio, "seed": self.seed}


@dataclass(frozen=True)
class PatientList:
    """A file with the patients of val, one per line; the others are for train."""

    file: Path

    def divide(self, cases: Sequence[Case]) -> dict[str, list[Case]]:
        try:
            lines = self.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--val-list {self.file} cannot be read as text: {error}") from error
        names = [line.strip() for line in lines if line.strip()]
        patients = {case.patient for case in cases}
        patient_of = {case.name: case.patient for case in cases}
        wrong = [f"{name} twice" for name in sorted(set(names)) if names.count(name) > 1]
        for name in dict.fromkeys(names):
            if name not in patients:
                whose = patient_of.get(name)
                of = f" is a case of the patient {whose}: name the patient, all cases go along"
                wrong.append(f"{name}{' is no patient' if whose is None else of}")
        if wrong:
            raise InputError(f"--val-list {self.file} does not fit: {first_few(wrong)}")
        if not names or set(names) == patients:
            raise InputError(f"--val-list {self.file} leaves val or train without a patient")
        return _two_parts(cases, set(names))

    def describe(self) -> dict[str, Any]:
        return {"rule": "list", "val_list": self.file.name}


@dataclass(frozen=True)
class AllPatients:
    """No division: everything goes into one index of that name."""

    name: str

    def __post_init__(self) -> None:
        too_long = len(self.name.encode()) > 200
        if too_long or not re.fullmatch(r"\w[\w.-]*", self.name):
            raise InputError(
                f"--all {self.name!r} is no file name of up to 200 letters, digits, '.' and '-'"
            )

    def divide(self, cases: Sequence[Case]) -> dict[str, list[Case]]:
        return {self.name: list(cases)}

    def describe(self) -> dict[str, Any]:
        return {"rule": "all"}


def _two_parts(cases: Sequence[Case], val: set[str]) -> dict[str, list[Case]]:
    return {
        "train": [case for case in cases if case.patient not in val],
        "val": [case for case in cases if case.patient in val],
    }
