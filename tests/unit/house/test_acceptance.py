"""Every promise on record names the tests that hold it, and these tests exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from tests.unit.house.tree import ROOT

PIECES = {
    "One machine, the whole way": [
        *(f"{number}." for number in range(1, 15)),
        "Bad input",
        "Done when",
    ],
    "Never lose work, on any store": [
        *(f"{number}." for number in range(1, 8)),
        "Bad input",
        "Done when",
    ],
    "The controller on a cluster": [
        *(f"{number}." for number in (1, 2, 3, 4, 5, 6, 7, 8, 11)),
        "Bad days",
    ],
    "The language and the rights on a cluster": ["Definitions", "Profiles", "Rights"],
}
BAD_INPUT = [
    "unknown key",
    "wrong type",
    "negative, zero, NaN and huge numbers",
    "without tokenizer or weights",
    "pickle-only",
    "`trustRemoteCode`",
    "never seen in training",
    "a single class",
    "0, 1 and 2 rows",
    "a 5 MB line",
    "broken quote, BOM, wrong delimiter, Latin-1",
    "Parquet cut off",
    "full or read-only disk",
    "a port in use",
    "a second run of the same job",
    "a spec changed between two runs",
]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: its piece and section, what is promised, and the tests it names."""

    piece: str
    section: str
    promise: str
    tests: tuple[tuple[str, str], ...]


def lines() -> Iterator[Line]:
    piece = section = ""
    for text in (ROOT / "docs" / "acceptance.md").read_text(encoding="utf-8").splitlines():
        if text.startswith("# "):
            piece, section = text.removeprefix("# "), ""
        elif text.startswith("## "):
            section = text.removeprefix("## ")
        elif text.startswith("|") and not text.startswith(
            ("|---", "| promise", "| input", "| line")
        ):
            promise, tests = text.strip("|").split("|")[:2]
            yield Line(piece, section, promise.strip(), tuple(_TEST.findall(tests)))


@cache
def _functions(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.exists():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("line", list(lines()), ids=lambda line: f"{line.section}: {line.promise}")
def test_every_line_names_tests_that_exist(line: Line) -> None:
    assert line.tests, "no test is named"
    missing = [f"{path}::{name}" for path, name in line.tests if name not in _functions(path)]
    assert missing == []


@pytest.mark.parametrize(
    ("piece", "item"), [(piece, item) for piece, items in PIECES.items() for item in items]
)
def test_every_item_has_lines(piece: str, item: str) -> None:
    assert [line for line in lines() if line.piece == piece and line.section.startswith(item)]


def test_every_piece_is_asked_about() -> None:
    assert {line.piece for line in lines()} <= PIECES.keys()


@pytest.mark.parametrize("phrase", BAD_INPUT)
def test_every_bad_input_has_a_line(phrase: str) -> None:
    assert [line for line in lines() if line.section == "Bad input" and phrase in line.promise]
