"""Sheets of slices: which way is up, what is drawn, and proportions in millimetres."""

import itertools

import numpy as np
import pytest

from inspire_d2.visualization.slices import radiological, slice_sheet

nib = pytest.importorskip("nibabel")
# Of slices along an axis of RAS: the axes that go to the left and to the top of the picture
VIEWS = {"S": ("R", "A"), "A": ("R", "S"), "R": ("A", "S")}
OPPOSITE = dict(zip("RASLPI", "LPIRAS", strict=True))
ORIENTATIONS = [
    tuple(letter if keep else OPPOSITE[letter] for letter, keep in zip(order, kept, strict=True))
    for order in itertools.permutations("RAS")
    for kept in itertools.product((True, False), repeat=3)
]


@pytest.mark.parametrize("along", VIEWS)
@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_right_and_up_are_where_radiologists_have_them(codes: tuple[str], along: str) -> None:
    """Against nibabel's way of turning a volume: a bright corner comes to be in the top left."""
    to_left, to_top = VIEWS[along]
    ras = np.zeros((4, 6, 8))
    ras[tuple(-1 if letter in (to_left, to_top) else slice(None) for letter in "RAS")] = 1
    start, end = (nib.orientations.axcodes2ornt(letters) for letters in ("RAS", codes))
    turn = nib.orientations.ornt_transform(start, end)
    volume = nib.Nifti1Image(ras, np.eye(4)).as_reoriented(turn)
    axis = next(k for k, code in enumerate(codes) if code in (along, OPPOSITE[along]))
    transpose, flip_h, flip_w = radiological(volume.affine, axis)
    picture = np.take(np.asarray(volume.dataobj), 2, axis)
    picture = picture.T if transpose else picture
    picture = picture[:: -1 if flip_h else 1, :: -1 if flip_w else 1]
    assert picture[0, 0] == 1 and picture.sum() == 1
    assert picture.shape == (ras.shape["RAS".index(to_top)], ras.shape["RAS".index(to_left)])


def test_labels_have_their_colours_and_slices_their_proportions() -> None:
    image = np.zeros((5, 10, 20), np.float16)
    label_map = np.zeros((5, 10, 20), np.uint8)
    label_map[3, 2:8, 4:16] = 2
    sheet = slice_sheet(image, label_map, (2.0, 1.0), {2: "WT", 1: "TC"}, tile_width=100)
    # one slice has a label: its tile of 100 x 100, a margin and the legend
    assert sheet.shape[1] == 104 and sheet.shape[0] > 104
    drawn = sheet[:100, :100].astype(int)
    coloured = np.ptp(drawn, axis=2) > 20
    expected = np.zeros((100, 100), bool)
    expected[20:80, 20:80] = True
    assert (coloured == expected).mean() > 0.97
    turned = slice_sheet(image, label_map, (2.0, 1.0), {2: "WT"}, turn=(True, False, False),
                         tile_width=100)  # fmt: skip
    assert turned.shape == sheet.shape


def test_without_labels_slices_are_spread_over_the_volume() -> None:
    image = np.random.default_rng(0).normal(size=(30, 8, 8)).astype(np.float16)
    sheet = slice_sheet(image, np.zeros(image.shape, np.uint8), (1.0, 1.0), {1: "lesion"},
                        num_slices=6, columns=4, tile_width=64)  # fmt: skip
    assert sheet.shape[1] == 4 * 68 and sheet.shape[0] > 2 * 68
    assert np.ptp(sheet[:64, :64].astype(int), axis=2).max() < 20  # grey
