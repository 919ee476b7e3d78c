"""Who may import whom, where import-linter's contracts cannot say it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.house.tree import ROOT, name_of, project_files

HEAVY = ("datasets", "fastapi", "pandas", "pyarrow", "ray", "sklearn", "torch", "transformers")
PACKAGE = ROOT / "platform" / "tunefleet"


def imported(path: Path) -> Iterator[str]:
    """The top-level names a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def _modules_of(package: str) -> list[Path]:
    return [path for path in project_files(".py") if path.is_relative_to(PACKAGE / package)]


PYDANTIC = ("pydantic", "pydantic_core")


@pytest.mark.parametrize("path", _modules_of("api"), ids=name_of)
def test_api_imports_pydantic_alone(path: Path) -> None:
    assert set(imported(path)) <= {
        *sys.stdlib_module_names,
        "pydantic",
        "pydantic_core",
        "tunefleet",
    }


@pytest.mark.parametrize("path", [*_modules_of("plan"), *_modules_of("cost")], ids=name_of)
def test_plan_and_cost_need_nothing_heavier_than_numpy(path: Path) -> None:
    assert set(imported(path)) <= {
        *sys.stdlib_module_names,
        "numpy",
        "pydantic",
        "pydantic_core",
        "tunefleet",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "import tunefleet",
        "import tunefleet; [getattr(tunefleet, name) for name in tunefleet.__all__]",
        "import tunefleet.api.job",
        "import tunefleet.plan.planner",
        "import tunefleet.cost.money",
        "from tunefleet.cli.main import run_command; run_command(['--help'])",
    ],
)
def test_loads_nothing_heavy(statement: str) -> None:
    check = f"; import sys; sys.exit(str([m for m in {HEAVY!r} if m in sys.modules] or ''))"
    done = subprocess.run(
        [sys.executable, "-c", statement + check], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
