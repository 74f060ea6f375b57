"""Volumes are turned as nibabel reorients them, slice by slice."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from inspire_d2.data.mri_orientation import (
    Turn,
    common_orientation,
    orientation,
    slice_direction,
)

ALL = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*axes)
]


def entry(codes: str, axis: int) -> dict:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (body, sign) in enumerate(orientations.axcodes2ornt(codes)):
        affine[int(body), column] = 2 * sign
    return {"oriented": True, "affine": affine.tolist(), "axis": axis}


@pytest.mark.parametrize(("target", "target_axis"), [("LPS", 2), ("RAS", 2), ("IAR", 0)])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_as_nibabel_reorients(target: str, target_axis: int, channels: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).random((4, 5, 6, *channels))
    for source in ALL:
        axis = next(k for k, code in enumerate(source) if code in "IS")
        steps = orientations.ornt_transform(*map(orientations.axcodes2ornt, (source, target)))
        wanted = np.moveaxis(orientations.apply_orientation(data, steps), target_axis, 0)
        slices = np.moveaxis(data, axis, 0)
        if channels:
            wanted, slices = np.moveaxis(wanted, -1, 1), np.moveaxis(slices, -1, 1)
        codes = [orientation(entry(source, axis)), orientation(entry(target, target_axis))]
        turn = Turn.between(*codes)
        np.testing.assert_array_equal(turn.apply(slices), wanted)
        np.testing.assert_array_equal(turn.undo(turn.apply(slices)), slices)


def test_codes_begin_with_the_slices() -> None:
    assert orientation(entry("LPS", 2)) == "SLP"
    assert orientation(entry("RAS", 0)) == "RAS"
    assert [slice_direction(entry("LPS", axis)) for axis in range(3)] == [0, 1, 2]
    assert orientation(entry("LPS", 2) | {"oriented": False}) is None


def test_nothing_is_turned_where_it_is_not_known_how() -> None:
    both = [entry("LPS", 2), entry("RAS", 2)]
    assert common_orientation(both) is None and common_orientation(both[:1]) == "SLP"
    for pair in ((None, "SLP"), ("SLP", None), ("SLP", "LPS"), ("SLP", "SLP")):
        assert Turn.between(*pair) == Turn(False, ())


def test_nibabel_names_axes_so() -> None:
    assert "".join(nib.aff2axcodes(np.asarray(entry("ARS", 1)["affine"]))) == "ARS"
