"""The protocol's measures against plain implementations of their published definitions.

These are written from the papers and are slow: a loop over thresholds, a loop over pixels. Where
the authors' MATLAB code says more than the paper, a comment says so.
"""

from itertools import product

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

pytest.importorskip("py_sod_metrics")

from inspire_d2.evaluation.polyp_protocol import score_map, to_8_bits
from inspire_d2.evaluation.polyp_tables import protocol_figures

# --- The definitions, of levels 0..255 (H, W) and a bool truth (H, W) -----------------------------


def overlap(levels: np.ndarray, truth: np.ndarray) -> tuple[list[float], list[float]]:
    """Dice and IoU of the pixels at or above each threshold; 0 without a true positive."""
    dice, iou = [], []
    for t in range(255, -1, -1):
        predicted, true = set(np.flatnonzero(levels >= t)), set(np.flatnonzero(truth))
        both = len(predicted & true)
        dice.append(2 * both / (len(predicted) + len(true)) if both else 0.0)
        iou.append(both / len(predicted | true) if both else 0.0)
    return dice, iou


def enhanced_alignment(binary: np.ndarray, truth: np.ndarray) -> float:
    """E-measure (Fan et al., IJCAI 2018) of a binary map."""
    fm, gt = binary.astype(float), truth.astype(float)
    if not truth.any():
        enhanced = 1 - fm
    elif truth.all():
        enhanced = fm
    else:
        phi_fm, phi_gt = fm - fm.mean(), gt - gt.mean()
        xi = 2 * phi_gt * phi_fm / (phi_gt**2 + phi_fm**2)
        enhanced = (1 + xi) ** 2 / 4
    return enhanced.sum() / (truth.size - 1)  # in the paper, / truth.size


def e_curve(levels: np.ndarray, truth: np.ndarray) -> list[float]:
    """In MATLAB the map is binarised by >, not by >= as for Dice."""
    return [enhanced_alignment(levels > t, truth) for t in range(255, -1, -1)]


def similarity(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM of two blocks, as S-measure has it: no constants."""
    x, y = x.ravel(), y.ravel().astype(float)
    if x.size == 1:
        return 1.0  # without variance
    (var_x, cov), (_, var_y) = np.cov(x, y)
    if (x.mean() == y.mean() == 0) or (var_x == var_y == 0):
        return 1.0
    if x.mean() * y.mean() * cov == 0:
        return 0.0
    luminance = 2 * x.mean() * y.mean() / (x.mean() ** 2 + y.mean() ** 2)
    return luminance * 2 * cov / (var_x + var_y)


def structure(s: np.ndarray, truth: np.ndarray) -> float:
    """S-measure (Fan et al., ICCV 2017), alpha = lambda = 0.5."""
    if not truth.any():
        return 1 - s.mean()
    if truth.all():
        return s.mean()

    def object_level(values: np.ndarray) -> float:
        deviation = values.std(ddof=1) if len(values) > 1 else 0.0
        return 2 * values.mean() / (values.mean() ** 2 + 1 + deviation)

    share = truth.mean()
    of_object = share * object_level(s[truth]) + (1 - share) * object_level(1 - s[~truth])
    # Rows and columns are counted from 1 and halves rounded up; blocks are weighted by their area.
    row, column = (int((2 * (i + 1).sum() + len(i)) // (2 * len(i))) for i in np.nonzero(truth))
    of_region = 0.0
    for block in (
        np.s_[:row, :column], np.s_[:row, column:], np.s_[row:, :column], np.s_[row:, column:]
    ):  # fmt: skip
        if truth[block].size:
            of_region += truth[block].size / truth.size * similarity(s[block], truth[block])
    return max(0.0, 0.5 * of_object + 0.5 * of_region)


def weighted_f(s: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Weighted F (Margolin et al., CVPR 2014), beta = 1: its least and its largest value.

    Where several pixels of the truth are equally near to a pixel outside, its error may be taken
    from any of them; the two values are those of the worst and of the best choice.
    """
    height, width = truth.shape
    error = np.abs(s - truth)
    foreground = np.argwhere(truth)
    distance = np.zeros(truth.shape)
    lowest, highest = error.copy(), error.copy()
    for pixel in np.argwhere(~truth):
        squared = ((foreground - pixel) ** 2).sum(axis=1)
        nearest = error[tuple(foreground[squared == squared.min()].T)]
        distance[tuple(pixel)] = squared.min() ** 0.5
        lowest[tuple(pixel)], highest[tuple(pixel)] = nearest.min(), nearest.max()
    window = {(i, j): np.exp(-(i * i + j * j) / 50) for i, j in product(range(-3, 4), repeat=2)}
    total = sum(window.values())  # 7 x 7, deviation 5; nothing lies beyond the image
    results = []
    for around in (highest, lowest):
        weighted = error * np.where(truth, 1, 2 - np.exp(np.log(0.5) / 5 * distance))
        for y, x in foreground:
            smooth = sum(
                weight / total * around[y + i, x + j]
                for (i, j), weight in window.items()
                if 0 <= y + i < height and 0 <= x + j < width
            )
            weighted[y, x] = min(error[y, x], smooth)
        true_positive, false_positive = (1 - weighted)[truth].sum(), weighted[~truth].sum()
        recall = true_positive / truth.sum()
        if true_positive == 0:
            results.append(0.0)
            continue
        precision = true_positive / (true_positive + false_positive)
        results.append(2 * precision * recall / (precision + recall))
    return results[0], results[1]


# --- What they are compared on --------------------------------------------------------------------

SHAPE = (30, 38)


def drawn(rows: slice | int, columns: slice | int) -> np.ndarray:
    result = np.zeros(SHAPE, bool)
    result[rows, columns] = True
    return result


SYNTHETIC = {
    "empty": drawn(slice(0), slice(0)),
    "full": drawn(slice(None), slice(None)),
    "one pixel": drawn(11, 20),
    "one pixel in the corner": drawn(-1, -1),
    "rectangle between pixels": drawn(slice(9, 19), slice(8, 22)),  # its centroid: 13.5, 14.5
    "two at the edge": drawn(slice(0, 9), slice(5, 17)) | drawn(slice(20, 30), slice(25, 38)),
}


def predictions(truth: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    rough = ndimage.gaussian_filter(rng.random(truth.shape), 2)
    near = ndimage.gaussian_filter(np.roll(truth, (2, -3), (0, 1)).astype(float), 2)
    one = np.zeros(truth.shape)
    one[12, 17] = 0.8
    return {
        "empty": np.zeros(truth.shape),
        "full": np.ones(truth.shape),
        "constant": np.full(truth.shape, 0.31),
        "one pixel": one,
        "perfect": truth.astype(float),
        "inverse": 1.0 - truth,
        "noise": rng.random(truth.shape),
        "near": (0.6 * near + 0.4 * rough).clip(0, 1),
    }


@pytest.fixture(scope="module")
def real_truths(shared_datasets) -> dict[str, np.ndarray]:
    """Polyps of three hospitals, a pixel of eight in each direction."""
    masks = {}
    for centre in ("C1", "C3", "C6"):
        for path in sorted((shared_datasets / "polypgen" / "masks").glob(f"{centre}_*.png")):
            mask = np.asarray(Image.open(path).convert("L"))[::8, ::8] > 128
            if 20 < mask.sum() < 700:
                masks[centre] = mask
                break
    assert len(masks) == 3
    return masks


def check(truth: np.ndarray) -> None:
    for name, probability in predictions(truth).items():
        scores = score_map(probability, truth)
        levels = stretched(probability)
        s = levels / 255
        dice, iou = overlap(levels, truth)
        np.testing.assert_allclose(scores["Dice"], dice, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(scores["IoU"], iou, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(scores["E"], e_curve(levels, truth), atol=1e-6, err_msg=name)
        # MATLAB adds eps to denominators, which are tiny where a block has one pixel of polyp.
        assert scores["Sm"] == pytest.approx(structure(s, truth), abs=1e-7), name
        assert scores["MAE"] == pytest.approx(abs(s - truth).sum() / s.size, abs=1e-12), name
        if truth.any():
            low, high = weighted_f(s, truth)
            assert high - low < 0.01
            assert low - 1e-9 <= scores["wFm"] <= high + 1e-9, name
        else:
            assert scores["wFm"] == 0  # the paper's has no value: there is no recall


def stretched(probability: np.ndarray) -> np.ndarray:
    """Levels 0..255, one pixel at a time; a constant map keeps its value."""
    low, high = probability.min(), probability.max()
    if low == high:
        low, high = 0, 1
    levels = [int(255 * (value - low) / (high - low) + 0.5) for value in probability.ravel()]
    return np.array(levels).reshape(probability.shape)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_definitions_on_synthetic_masks(name):
    check(SYNTHETIC[name])


@pytest.mark.parametrize("centre", ["C1", "C3", "C6"])
def test_definitions_on_real_masks(real_truths, centre):
    check(real_truths[centre])


# --- What the figures are of maps that need no computing ------------------------------------------


def figures(probability: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return protocol_figures([{"protocol": score_map(probability, truth)}])


def test_perfect_map():
    truth = SYNTHETIC["rectangle between pixels"]
    n, N = truth.sum(), truth.size
    found = figures(truth.astype(float), truth)
    assert found["maxDice"] == found["maxIoU"] == 1
    assert found["wFm"] == pytest.approx(1) and found["Sm"] == pytest.approx(1)
    assert found["MAE"] == 0
    # At threshold 0 all is predicted, so the means are not quite 1.
    assert found["mDice"] == pytest.approx((255 + 2 * n / (n + N)) / 256, abs=1e-6)
    assert found["mIoU"] == pytest.approx((255 + n / N) / 256, abs=1e-6)
    # The authors divide by N - 1; the empty map, above 1, agrees with nothing but chance: 1/4.
    assert found["maxEm"] == pytest.approx(N / (N - 1))
    assert found["mEm"] == pytest.approx((255 + 0.25) / 256 * N / (N - 1), abs=1e-6)


def test_empty_map_finds_something_at_threshold_0_only():
    truth = SYNTHETIC["one pixel"]
    found = figures(np.zeros(truth.shape), truth)
    assert found["maxDice"] == pytest.approx(2 / (1 + truth.size))
    assert found["mDice"] == pytest.approx(2 / (1 + truth.size) / 256)
    assert found["wFm"] == pytest.approx(0)
    assert found["MAE"] == pytest.approx(1 / truth.size)


def test_means_are_over_images_before_the_maximum():
    truth = SYNTHETIC["one pixel"]
    low, high = np.zeros(truth.shape), np.zeros(truth.shape)
    low[truth], low[0, 0] = 0.4, 1.0  # Dice 2/3 at 102 and lower, 0 above
    high[truth], high[0, 0] = 1.0, 0.8  # Dice 2/3 at 204 and lower, 1 above
    rows = [{"protocol": score_map(one, truth)} for one in (low, high)]
    assert protocol_figures(rows)["maxDice"] == pytest.approx(2 / 3)  # at 102; not (2/3 + 1) / 2
    alone = [protocol_figures([row])["mDice"] for row in rows]
    assert protocol_figures(rows)["mDice"] == pytest.approx(np.mean(alone))
    assert protocol_figures([]) == {}


def test_maps_are_stretched_and_rounded():
    np.testing.assert_array_equal(to_8_bits(np.array([[0.2, 0.3, 0.6]])), [[0, 64, 255]])
    np.testing.assert_array_equal(to_8_bits(np.float32([[0.25, 0.25]])), [[64, 64]])
    np.testing.assert_array_equal(to_8_bits(np.ones((1, 2))), [[255, 255]])
    np.testing.assert_array_equal(to_8_bits(np.array([[np.nan, 0.5, 0.1]])), [[0, 255, 51]])
    assert to_8_bits(np.zeros((2, 3), np.float32)).dtype == np.uint8


def test_every_level_is_at_its_own_threshold():
    # 255 k / 255 rounded down would put some levels k one threshold too low.
    truth = np.zeros((16, 16), bool)
    truth.flat[::3] = True
    levels = np.random.default_rng(0).permutation(256).reshape(16, 16)
    scores = score_map(levels / 255, truth)
    np.testing.assert_allclose(scores["Dice"], overlap(levels, truth)[0], atol=1e-6)
    np.testing.assert_allclose(scores["E"], e_curve(levels, truth), atol=1e-6)
    assert all(scores[name].shape == (256,) for name in ("Dice", "IoU", "E"))
    assert all(scores[name].dtype == np.float32 for name in ("Dice", "IoU", "E"))
