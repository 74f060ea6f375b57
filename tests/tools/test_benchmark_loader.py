"""The benchmark of the training loader: what is loaded, its table, its command line."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspire_d2.data import prepare, splits
from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.engine.config import load_config, save_config
from inspire_d2.errors import InputError
from tools import benchmark
from tools.cost import loader
from tools.cost.loader import LoaderCosts, loader_table

DEMO = Path(__file__).resolve().parents[2] / "configs/polyp/demo_mask_rcnn_inspire.py"


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A config of ten images, two a batch."""
    root = tmp_path_factory.mktemp("ten")
    write_synthetic_set(root, 12, seed=3, size=96)
    prepare.prepare_polyps("kvasir", root, splits.RatioSplit(0.84, 0), root / "annotations")
    dataset = f"{{name:{root.name}_train,json_file:{root}/annotations/train.json}}"
    cfg = load_config(
        str(DEMO),
        [f"dataloader.train.dataset={dataset}", "dataloader.train.total_batch_size=2"],
    )
    save_config(cfg, str(root / "config.yaml"))
    return str(root / "config.yaml")


@pytest.fixture(autouse=True)
def _no_warnings_of_forks() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork where there are threads
        yield


def test_a_run_prints_and_writes_a_table(config_file, tmp_path, capsys):
    words = ["--loader", "--quick", "--config-file", config_file, "--rounds", "2"]
    benchmark.main([*words, "--output", str(tmp_path / "new")])
    printed = capsys.readouterr().out
    table = (tmp_path / "new" / "loader.md").read_text()
    saved = json.loads((tmp_path / "new" / "loader.json").read_text())
    for text in (printed, table):
        assert "### Loading 10 images of config.yaml, 2 a batch (rounds: 2)" in text
        for workers in (0, 1):
            for name in ("Detectron2's", "resumable"):
                assert f"| {workers} | {name} | " in text
    for measured in (saved["seconds"], saved["cpu_seconds"]):
        assert measured.keys() == {"0", "1"}
        for by_loader in measured.values():
            assert {name: len(values) for name, values in by_loader.items()} == {
                "Detectron2's": 2,
                "resumable": 2,
            }
            assert min(min(values) for values in by_loader.values()) > 0


def test_every_loader_gives_the_same_images(config_file, monkeypatch):
    """Once each in a round, augmented alike."""
    seen = {name: [] for name in loader.LOADERS}

    def watched(name, build):
        def built(*args, **options):
            for batch in build(*args, **options):
                seen[name] += [(one["file_name"], one["image"].sum().item()) for one in batch]
                yield batch

        return lambda *args, **options: _Iterable(lambda: built(*args, **options))

    monkeypatch.setattr(
        loader, "LOADERS", {name: watched(name, build) for name, build in loader.LOADERS.items()}
    )
    monkeypatch.setattr(loader, "WORKERS", (0,))
    for _ in loader.measure_loaders(LoaderCosts({}, config_file), 100, 1, 1):
        pass
    ours, theirs = (sorted(seen[name]) for name in ("resumable", "Detectron2's"))
    assert ours == theirs and len(ours) == 20 and len(set(ours)) == 10


class _Iterable:
    def __init__(self, make):
        self._make = make

    def __iter__(self):
        return self._make()


def test_images_are_whole_batches_of_either_shape():
    data = [{"width": 40 if i % 3 else 30, "height": 35, "id": i} for i in range(100)]
    chosen = loader._whole_batches(data, 50, 4)
    assert len({one["id"] for one in chosen}) == len(chosen) > 40
    for wide in (True, False):
        count = sum((one["width"] > one["height"]) == wide for one in chosen)
        assert count % 4 == 0 and count > 10
    with pytest.raises(InputError, match=r"100 images .* are not one batch of 70\."):
        loader._whole_batches(data, 100, 70)


def test_ratios_are_paired_by_round():
    costs = LoaderCosts({"cpu": "one"}, "some/config.py", images=10, batch_size=2)
    # A machine that slows down threefold in the second round: the ratio stays.
    costs.seconds = {0: {"Detectron2's": [2.0, 6.0, 2.0], "resumable": [1.0, 3.0, 1.0]}}
    costs.cpu_seconds = {0: {"Detectron2's": [1.0, 1.0, 1.0], "resumable": []}}
    rows = loader_table(costs).splitlines()
    assert "| 0 | Detectron2's | 200 | 1.000 (1.000-1.000) | 100 | 1.000 (1.000-1.000) |" in rows
    assert "| 0 | resumable | 100 | 0.500 (0.500-0.500) | - | - |" in rows


def test_ctrl_c_writes_what_there_is(config_file, tmp_path, capsys, monkeypatch):
    def stop(steps, *args):
        steps["resumable"]()
        yield 0, "resumable", 0.5
        raise KeyboardInterrupt

    monkeypatch.setattr(loader, "alternate", stop)
    with pytest.raises(SystemExit) as error:
        benchmark.main(["--loader", "--config-file", config_file, "--output", str(tmp_path)])
    assert error.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("interrupted; ")
    saved = json.loads((tmp_path / "loader.json").read_text())
    assert saved["seconds"]["0"]["resumable"] == [0.5]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scoring"], "--scoring and --loader exclude each other"),
        (["--sizes", "64"], "--sizes has no meaning with --loader"),
        (["--seed", "1"], "--seed has no meaning with --loader"),
        (["--quick", "--rounds", "0"], "--rounds must be 1 or more, not 0"),
    ],
)
def test_wrong_input_is_one_sentence(words, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as error:
        benchmark.main(["--loader", *words, "--output", str(tmp_path / "none")])
    assert error.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1 and not (tmp_path / "none").exists()
