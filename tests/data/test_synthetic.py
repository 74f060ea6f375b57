"""The synthetic set: deterministic, in Kvasir-SEG's layout, with separate polyps."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspire_d2.data.synthetic import make_image, write_synthetic_set
from inspire_d2.errors import InputError

SCRIPT = Path(__file__).parents[2] / "datasets" / "make_synthetic.py"


@pytest.fixture(scope="module")
def images() -> list[tuple[np.ndarray, np.ndarray]]:
    return [make_image(seed=3, index=i, size=128) for i in range(120)]


def polyps(mask: np.ndarray) -> np.ndarray:
    """Areas of the mask's components."""
    return cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_types_sizes_and_values(images):
    shapes = set()
    for image, mask in images:
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (*mask.shape, 3)
        height, width = mask.shape
        assert 128 * 6 / 7 - 1 <= width <= 128 * 8 / 7 + 1
        assert 0.81 <= height / width <= 0.89
        assert set(np.unique(mask)) <= {0, 255}
        assert image.std() > 15  # not blank
        shapes.add(mask.shape)
    assert len(shapes) > 20


def test_the_mix_of_counts_and_areas(images):
    counts = np.array([len(polyps(mask)) for _, mask in images])
    assert 0.05 < np.mean(counts == 0) < 0.28  # 15 % of 120, four standard deviations wide
    assert np.mean(counts == 1) > 0.4
    assert np.mean(counts >= 2) > 0.08
    assert counts.max() <= 3
    areas = np.concatenate([polyps(mask) / mask.size for _, mask in images])
    assert areas.min() * 128 * 128 > 40  # no crumbs left by clipping
    assert areas.max() > 6 * areas.min()
    assert areas.max() < 0.35


def test_polyps_do_not_touch(images):
    for _, mask in images:
        grown = cv2.dilate(mask, np.ones((3, 3), np.uint8))
        assert len(polyps(grown)) == len(polyps(mask))


def test_an_image_depends_on_seed_index_and_size_only():
    image, mask = make_image(5, 7)
    make_image(5, 8)
    again = make_image(5, 7)
    assert np.array_equal(image, again[0])
    assert np.array_equal(mask, again[1])
    for other in (make_image(6, 7), make_image(5, 6), make_image(5, 7, 200)):
        assert other[0].shape != image.shape or not np.array_equal(other[0], image)


def test_a_polyp_can_be_seen_at_its_edge(images):
    """Colour changes across the outline more than across the same outline put elsewhere."""
    stronger, number = 0, 0
    for image, mask in images:
        if not mask.any():
            continue
        inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
        ring = (cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0) & (mask == 0)
        if not inside.any():
            continue
        number += 1
        contrast = np.abs(image[inside].mean(0) - image[ring].mean(0)).max()
        flipped = image[::-1, ::-1]
        stronger += contrast > np.abs(flipped[inside].mean(0) - flipped[ring].mean(0)).max()
    assert number > 80
    assert stronger / number > 0.6


def test_no_colour_threshold_solves_the_set(images):
    """The best single threshold on any channel or ratio, chosen with the truth, stays poor."""
    pixels = np.concatenate([image.reshape(-1, 3)[::5] for image, _ in images]).astype(float)
    truth = np.concatenate([mask.ravel()[::5] > 0 for _, mask in images])
    blue, green, red = pixels.T + 1
    best = 0.0
    for feature in (blue, green, red, red / green, red / blue, green / blue):
        for sign in (1, -1):
            for level in np.quantile(feature, np.linspace(0.02, 0.98, 49)):
                guess = sign * feature > sign * level
                best = max(best, 2 * (guess & truth).sum() / (guess.sum() + truth.sum()))
    assert 0.05 < best < 0.5


def test_written_set_is_the_images_and_can_be_written_again(tmp_path):
    root = tmp_path / "set"
    seen = []
    names = write_synthetic_set(
        root, 5, seed=2, size=96, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(i, 5) for i in range(1, 6)]
    assert sorted(p.stem for p in (root / "images").glob("*.jpg")) == names
    assert sorted(p.stem for p in (root / "masks").glob("*.png")) == names
    for index, name in enumerate(names):
        image, mask = make_image(2, index, 96)
        stored = cv2.imread(str(root / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, mask)
        jpeg = cv2.imread(str(root / "images" / f"{name}.jpg"))
        assert np.abs(jpeg.astype(int) - image).mean() < 4
    before = contents(root)
    write_synthetic_set(root, 5, seed=2, size=96)
    assert contents(root) == before
    write_synthetic_set(root, 7, seed=2, size=96)  # longer: the first images stay
    assert {name: contents(root)[name] for name in before} == before


def test_folders_with_other_things_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        write_synthetic_set(tmp_path, 2)
    assert contents(tmp_path) == {"notes.txt": b"mine"}

    root = tmp_path / "set"
    write_synthetic_set(root, 3, seed=0, size=64)
    before = contents(root)
    with pytest.raises(InputError, match="'seed': 0"):
        write_synthetic_set(root, 3, seed=1, size=64)
    with pytest.raises(InputError, match="synthetic_00002"):
        write_synthetic_set(root, 2, seed=0, size=64)
    assert contents(root) == before
    with pytest.raises(InputError, match="not a folder"):
        write_synthetic_set(tmp_path / "notes.txt", 2)


def test_a_set_that_is_prepared_can_be_made_again(tmp_path):
    root = tmp_path / "set"
    write_synthetic_set(root, 3, size=64)
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").write_text("{}")
    write_synthetic_set(root, 4, size=64)
    assert (root / "annotations" / "train.json").read_text() == "{}"
    (root / "annotations" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"other files \(annotations/notes\.txt\)"):
        write_synthetic_set(root, 4, size=64)


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"index": -1}, {"size": 20}, {"size": 10_000}], ids=str
)
def test_options_out_of_range(options):
    with pytest.raises(InputError):
        make_image(**{"seed": 0, "index": 0, **options})


def test_command_line(tmp_path, monkeypatch, capsys):
    root = tmp_path / "set"
    arguments = ["--output", str(root), "--num-images", "3", "--seed", "4", "--size", "64"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "wrote 3 images" in done.stdout
    assert "3/3" in done.stderr
    expected = tmp_path / "expected"
    write_synthetic_set(expected, 3, seed=4, size=64)
    assert contents(root) == contents(expected)

    main = runpy.run_path(str(SCRIPT))["main"]
    (root / "more.txt").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "more.txt" in error
    assert error.count("\n") == 1
