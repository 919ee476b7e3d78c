"""The commands people type: make's targets, the constraints, what CI calls, what README says."""

from __future__ import annotations

import re
import subprocess
import tomllib

from tests.unit.house.tree import ROOT

TARGETS = {"quickstart", "test", "lint", "format", "docs", "benchmark", "clean"}


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make (\S+)", listed, re.MULTILINE)) >= TARGETS


def test_constraints_are_names_and_versions_only() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_requirement_is_constrained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {re.split(r"[\[<>=]", line)[0] for group in groups for line in group}
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in text.splitlines()}
    assert {name.lower().replace("_", "-") for name in wanted} <= pinned


def test_ci_runs_the_tests_and_the_quickstart() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make test\b", script, re.MULTILINE)
    assert re.search(r"^make quickstart\b", script, re.MULTILINE)


def test_the_readme_names_the_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make quickstart", "make test", "tunefleet init", "tunefleet run"):
        assert command in readme
