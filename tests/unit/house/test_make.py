"""The commands people type: make's targets, the constraints, what CI calls, what README says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.unit.house.tree import ROOT

TARGETS = {
    *("quickstart", "test", "test-e2e", "test-faults", "lint", "format", "docs", "benchmark"),
    *("testbed", "cluster-up", "cluster-down", "cluster-demo"),
    *("test-cluster", "test-controller", "test-node", "test-cluster-full", "clean"),
}


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
    assert re.search(r"^timed test\b", script, re.MULTILINE)
    assert re.search(r"^timed test-e2e\b", script, re.MULTILINE)
    assert re.search(r"^timed quickstart\b", script, re.MULTILINE)
    assert re.search(r"^ *timed test-cluster\b", script, re.MULTILINE)


MAKEFILE = """
.venv/.tools quickstart test-e2e testbed test-cluster cluster-down:
\t@echo made $@
test:
\t@echo "===== 3 passed in 2.1s ====="; exit $(FAULT)
"""


@pytest.mark.parametrize("fault", [0, 1], ids=["green tests", "red tests"])
def test_ci_says_how_long_the_tests_took_and_ends_as_they_did(tmp_path: Path, fault: int) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    done = subprocess.run(
        ["bash", ".ci/run"],
        cwd=tmp_path,
        env=os.environ | {"FAULT": str(fault)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == bool(fault), done.stderr
    assert "in time: make quickstart took 0 min 0" in done.stdout
    assert re.search(r"make test took 0 min \d\d s .promised on two idle cores: 12", done.stdout)
    assert done.stdout.splitlines()[-1] == "===== 3 passed in 2.1s ====="


def test_the_tests_fetch_what_they_need_first() -> None:
    # Otherwise `make test` alone, on a machine with nothing, leaves out what needs a real model.
    told = subprocess.run(
        ["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert 0 < told.index("jobs/quickstart/fetch.py") < told.index("-m pytest")


TOOL = "#!/bin/sh\necho {name}; exit ${{TOOLS:-0}}\n"
PYTHON = """#!/bin/sh
case "$*" in *pytest*) echo "===== 3 passed ====="; exit ${TESTS:-0};; esac
"""


@pytest.mark.parametrize(
    ("broken", "code"),
    [({}, 0), ({"TOOLS": "1"}, 2), ({"TESTS": "1"}, 2)],
    ids=["all is well", "a tool complains", "a test fails"],
)
def test_make_test_ends_well_only_when_tests_and_tools_do(
    tmp_path: Path, broken: dict[str, str], code: int
) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("ruff", "lint-imports", "mypy", "python"):
        text = PYTHON if name == "python" else TOOL.format(name=name)
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    for name in (".torch", ".ready", ".tools"):
        (tmp_path / ".venv" / name).touch()
    done = subprocess.run(
        ["make", "test"],
        cwd=tmp_path,
        env=os.environ | broken,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert ("make lint" in done.stderr) == ("TOOLS" in broken)


def test_the_readme_names_the_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make quickstart", "make test", "tunefleet init", "tunefleet run"):
        assert command in readme
