"""Which part of the package may import which."""

import ast
from pathlib import Path

import pytest

import inspire_d2

PACKAGE = Path(inspire_d2.__file__).parent
FORBIDDEN = {"modeling": {"engine", "data", "evaluation"}, "engine": {"modeling"}}


def imported_parts(path: Path) -> set[str]:
    """List the parts of inspire_d2 that a file one folder below the package's imports."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = {0: "", 1: f"inspire_d2.{path.parent.name}.", 2: "inspire_d2."}[node.level]
            module = f"{above}{node.module or ''}".rstrip(".")
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("inspire_d2.")}
    return parts


@pytest.mark.parametrize("part", FORBIDDEN)
def test_models_and_engine_know_nothing_of_each_other(part: str) -> None:
    files = sorted((PACKAGE / part).glob("*.py"))
    assert files
    for path in files:
        found = imported_parts(path)
        assert not found & FORBIDDEN[part], f"{path.name} imports {found & FORBIDDEN[part]}"


@pytest.mark.parametrize(
    "line",
    [
        "from ..modeling.isa import FlowAlign",
        "from .. import modeling",
        "from inspire_d2.modeling import InspireFPN",
        "from inspire_d2 import modeling",
        "import inspire_d2.modeling.isa",
        "def later():\n    from ..modeling import InspireFPN",
    ],
)
def test_each_way_to_import_is_seen(line: str, tmp_path: Path) -> None:
    path = tmp_path / "engine" / "trainer.py"
    path.parent.mkdir()
    path.write_text(line)
    assert "modeling" in imported_parts(path)
