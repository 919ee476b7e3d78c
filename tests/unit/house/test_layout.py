"""How the tree looks: where packages are, what every module carries, how long files get."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.unit.house.tree import ROOT, modules, name_of, project_files

LONGEST_FILE = 400
LONGEST_TABLE = 600  # a test's table of cases is read row by row
PACKAGES = ROOT / "platform" / "tunefleet"


def test_platform_is_a_source_root_and_never_a_package() -> None:
    # With an __init__.py it would shadow the standard library's `platform`.
    assert not (ROOT / "platform" / "__init__.py").exists()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    assert len(docstring) > len("...")


@pytest.mark.parametrize("path", project_files(".py"), ids=name_of)
def test_no_module_is_longer_than_a_sitting(path: Path) -> None:
    limit = LONGEST_TABLE if path.is_relative_to(ROOT / "tests") else LONGEST_FILE
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def test_no_module_is_called_utils_or_manager() -> None:
    stems = {path.stem for path in modules()}
    assert not stems & {"utils", "util", "helpers", "manager", "misc", "common"}


def test_unit_tests_mirror_the_packages() -> None:
    packages = {path.name for path in PACKAGES.iterdir() if (path / "__init__.py").exists()}
    tested = {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir()}
    assert tested - {"house", "__pycache__"} <= packages


def test_test_folders_are_not_packages() -> None:
    assert not [name_of(path) for path in (ROOT / "tests").rglob("__init__.py")]
