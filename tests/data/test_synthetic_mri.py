"""Synthetic MRI: nested tumours, the same again for a seed, in a layout that prepare reads."""

from pathlib import Path

import numpy as np
import pytest

from inspire_d2.data.mri_layouts import find_cases
from inspire_d2.data.problems import Problems
from inspire_d2.data.synthetic_mri import make_case, write_synthetic_mri
from inspire_d2.errors import InputError

nib = pytest.importorskip("nibabel")
SHAPE = (32, 40, 24)


def test_a_case_is_brain_with_a_tumour_of_three_parts() -> None:
    for number in range(4):
        channels, label = make_case(0, number, SHAPE)
        assert list(channels) == ["t1", "t1ce", "t2", "flair"]
        brain = channels["t1"] != 0
        assert 0.2 < brain.mean() < 0.5  # an ellipsoid's share of its box, pi / 6, x 0.85 cubed
        assert set(np.unique(label)) == {0, 1, 2, 4}
        assert not label[~brain].any()
        whole, core, enhancing = (np.isin(label, v).sum() for v in ([1, 2, 4], [1, 4], [4]))
        assert 0 < enhancing < core < whole < brain.sum() / 2
        flair = channels["flair"].astype(float)
        assert flair[label > 0].mean() > flair[brain & (label == 0)].mean() + 50


def test_seed_and_number_determine_a_case() -> None:
    first, again, other, seeded = (
        make_case(seed, number, SHAPE)[0]["t1"] for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first != seeded).any()


def test_written_cases_are_found_as_brats(tmp_path: Path) -> None:
    names = write_synthetic_mri(tmp_path / "mri", 2, shape=SHAPE)
    problems = Problems(tmp_path)
    cases = find_cases("brats", tmp_path / "mri", problems)
    assert not problems and [case.name for case in cases] == names
    channels, label = make_case(0, 1, SHAPE)
    read = [np.asarray(nib.load(path).dataobj) for path in (*cases[1].images, *cases[1].labels)]
    for array, drawn in zip(read, (*channels.values(), label), strict=True):
        np.testing.assert_array_equal(array, drawn)


@pytest.mark.parametrize(
    ("count", "shape", "sentence"),
    [(0, SHAPE, "--cases 0"), (1, (32, 8, 32), "--shape 32 8 32"), (1, SHAPE, "holds files")],
)
def test_wrong_input_is_told(tmp_path: Path, count: int, shape: tuple, sentence: str) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(InputError, match=sentence):
        write_synthetic_mri(tmp_path, count, shape=shape)
