"""Wheel and sdist: what they hold, and that an installed wheel works away from the checkout.

The wheel is built from the sdist, both from a copy of the sources, and installed into a folder that
comes before everything else on the path. Nothing is downloaded.
"""

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

import inspire_d2
from inspire_d2.data import prepare, splits
from inspire_d2.data.synthetic import write_synthetic_set
from inspire_d2.engine.config import config_digest
from inspire_d2.model_zoo import get_config, list_configs

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("inspire_d2", "configs", "demo", "tools", "docs", "tests")
FILES = (
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "MODEL_ZOO.md"),
    *("Makefile", "NOTICE", "README.md", "pyproject.toml", "requirements.txt", "setup.py"),
    "train_net.py",
)
NAME = "polyp/demo_mask_rcnn_inspire"
COMMANDS = {
    "inspire-d2-train": "train_net.py",
    "inspire-d2-predict": "tools/predict.py",
    "inspire-d2-predict-mri": "tools/predict_mri.py",
    "inspire-d2-prepare-polyps": "datasets/prepare_polyps.py",
    "inspire-d2-prepare-mri": "datasets/prepare_mri.py",
    "inspire-d2-convert-torchvision": "tools/convert_torchvision.py",
    "inspire-d2-summarize": "tools/summarize_runs.py",
    "inspire-d2-report": "tools/report.py",
    "inspire-d2-submit": "tools/submit.py",
    "inspire-d2-export": "tools/export.py",
}


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )


def built(*command: object, cwd: Path) -> None:
    result = run(sys.executable, *command, cwd=cwd, PIP_DISABLE_PIP_VERSION_CHECK="1")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist and unpack it."""
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    leave_out = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=leave_out)
    # Data in a checkout stays there.
    (source / "datasets" / "kvasir").mkdir(parents=True)
    (source / "datasets" / "kvasir" / "image.py").touch()
    for name in (*FILES, *scripts_of_datasets()):
        shutil.copy(ROOT / name, source / name)
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(folder)!r})"
    built("-c", code, cwd=source)
    (archive,) = folder.glob("*.tar.gz")
    assert archive.name == f"inspire_d2-{inspire_d2.__version__}.tar.gz"
    shutil.unpack_archive(archive, folder)
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    built("-m", "pip", "wheel", *offline, "--wheel-dir", sdist.parent, sdist, cwd=sdist.parent)
    (path,) = sdist.parent.glob("*.whl")
    assert path.name == f"inspire_d2-{inspire_d2.__version__}-py3-none-any.whl"
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    options = ("--no-deps", "--no-index", "--no-compile", "--target", folder)
    built("-m", "pip", "install", *options, wheel, cwd=folder)
    return folder


def scripts_of_datasets() -> set[str]:
    return {"datasets/README.md", *files_under(ROOT, "datasets/*.py")}


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


def info(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as file:
        return file.read(f"inspire_d2-{inspire_d2.__version__}.dist-info/{name}").decode()


def about(wheel: Path) -> Message:
    return message_from_string(info(wheel, "METADATA"))


def files_under(folder: Path, pattern: str = "**/*.py") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.glob(pattern)}


# --- What they hold -------------------------------------------------------------------------------


def test_sdist_holds_the_repository_without_data(sdist: Path) -> None:
    for name in FOLDERS:
        here = {path for path in files_under(ROOT / name, "**/*.*") if "__pycache__" not in path}
        assert files_under(sdist / name, "**/*.*") == here, name
    assert files_under(sdist, "datasets/**/*") == scripts_of_datasets()
    assert set(FILES) <= {path.name for path in sdist.iterdir()}


def test_wheel_holds_package_configs_and_scripts_alone(wheel: Path) -> None:
    parts = {"inspire_d2": set(), "configs": set(), "scripts": set(), "info": set()}
    for name in names_in(wheel):
        path = PurePosixPath(name)
        if path.parts[0] == f"inspire_d2-{inspire_d2.__version__}.dist-info":
            parts["info"].add(str(path.relative_to(path.parts[0])))
        else:
            assert path.parts[0] == "inspire_d2", name
            part = path.parts[1] if path.parts[1] in ("configs", "scripts") else "inspire_d2"
            start = "inspire_d2" if part == "inspire_d2" else f"inspire_d2/{part}"
            parts[part].add(str(path.relative_to(start)))
    templates = files_under(ROOT / "inspire_d2", "*/templates/*")
    assert len(templates) >= 3
    assert parts["inspire_d2"] == files_under(ROOT / "inspire_d2") | templates
    assert parts["configs"] == files_under(ROOT / "configs")
    assert parts["scripts"] == {
        *COMMANDS.values(),
        *("tools/__init__.py", "tools/predict_output.py", "tools/submit_checks.py"),
    }
    assert {"licenses/LICENSE", "licenses/NOTICE", "entry_points.txt"} <= parts["info"]


def test_scripts_in_the_wheel_import_no_others(wheel: Path) -> None:
    scripts = {name.removeprefix("inspire_d2/scripts/") for name in names_in(wheel)}
    for script in COMMANDS.values():
        for module in imports(ROOT / script):
            if module.startswith(("tools.", "datasets.")):
                assert f"{module.replace('.', '/')}.py" in scripts, f"{script} imports {module}"


def test_metadata(wheel: Path) -> None:
    fields = about(wheel)
    assert fields["Name"] == "inspire_d2" and fields["Version"] == inspire_d2.__version__
    assert fields["License"] == "Apache-2.0"
    assert fields.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert fields["Description-Content-Type"] == "text/markdown"
    assert "# inspire_d2" in fields.get_payload()
    points = configparser.ConfigParser()
    points.read_string(info(wheel, "entry_points.txt"))
    assert set(points["console_scripts"]) == set(COMMANDS)


def test_every_package_that_is_imported_is_asked_for(wheel: Path) -> None:
    asked = {canonical(re.split("[ <>=;]", r)[0]) for r in about(wheel).get_all("Requires-Dist")}
    # Detectron2 and PySODMetrics are installed apart, as the README and docs say.
    asked |= {"detectron2", "sal-detectron2", "pysodmetrics"}
    owners = metadata.packages_distributions()
    files = [*(ROOT / "inspire_d2").rglob("*.py"), *(ROOT / "configs").rglob("*.py")]
    modules = {m.split(".")[0] for path in files for m in imports(path)}
    for module in modules - set(sys.stdlib_module_names) - {"inspire_d2"}:
        names = {canonical(name) for name in owners.get(module, [module])}
        assert names & asked, f"{module}, of {names}"


def imports(path: Path) -> set[str]:
    """Name the modules that a file imports, wherever in it, by absolute names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_notice_names_what_is_depended_on(wheel: Path) -> None:
    notice = canonical((ROOT / "NOTICE").read_text())
    others = {"torch": "pytorch", "hydra-core": "hydra", "opencv-python": "opencv-python"}
    for requirement in about(wheel).get_all("Requires-Dist"):
        name = canonical(re.split("[ <>=;]", requirement)[0])
        assert others.get(name, name) in notice, name


# --- Installed, away from the checkout ------------------------------------------------------------


def test_configs_are_those_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = (
        "import inspire_d2; from inspire_d2.engine.config import config_digest\n"
        "from inspire_d2.model_zoo import get_config, list_configs\n"
        "print(inspire_d2.__file__, *list_configs(), *map(config_digest, "
        f"(get_config({NAME!r}), get_config('mri/brats_unet_inspire.py'))))"
    )
    result = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    file, *rest = result.stdout.split()
    assert file == str(installed / "inspire_d2" / "__init__.py")
    digests = [config_digest(get_config(name)) for name in (NAME, "mri/brats_unet_inspire")]
    assert rest == [*list_configs(), *digests]


def call(installed: Path, cwd: Path, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run(installed / "bin" / command, *words, cwd=cwd, PYTHONPATH=str(installed))


@pytest.mark.parametrize(
    "command",
    [
        # torch and torchvision are imported first
        pytest.param(name, marks=pytest.mark.slow if "torchvision" in name else ())
        for name in COMMANDS
    ],
)
def test_command_tells_of_itself(installed: Path, tmp_path: Path, command: str) -> None:
    result = call(installed, tmp_path, command, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: {command} ")
    assert f"python {COMMANDS[command]}" not in result.stdout
    assert result.stdout.count(command) > 1  # its examples


@pytest.mark.slow
def test_two_processes_train_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    write_synthetic_set(tmp_path, 8, seed=3, size=64)
    prepare.prepare_polyps("kvasir", tmp_path, splits.RatioSplit(0.75, 0), tmp_path / "annotations")
    options = [
        "dataloader.train.dataset={name: packed_train, json_file: annotations/train.json}",
        "dataloader.test.dataset={name: packed_val, json_file: annotations/val.json}",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
        "dataloader.test.mapper.augmentations.0.short_edge_length=64",
        "train.max_iter=2",
        "train.output_dir=run",
    ]
    flags = ["--num-gpus", "2", "--config-file", f"configs/{NAME}.py"]
    result = call(installed, tmp_path, "inspire-d2-train", *flags, *options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert (tmp_path / "run" / "log.txt.rank1").is_file()
    assert str(installed / "inspire_d2" / "configs" / NAME) in result.stdout
    assert (tmp_path / "run" / "model_final.pth").is_file()
    assert "polyp" in json.loads((tmp_path / "run" / "evaluation.json").read_text())
