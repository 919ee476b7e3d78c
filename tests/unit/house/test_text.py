"""What must not stand in a file: a machine's paths, a registry's host, an open end, a bad name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.house.tree import name_of, project_files

# Each pattern is put together so that this file does not find itself.
FORBIDDEN = {
    "an open end": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|NotImplemented" + "Error"),
    "a path of somebody's machine": re.compile(
        r"(?<![\w.:])/(?:ro" + r"ot|Us" + r"ers|wo" + r"rk)/\w"
    ),
    "the host of a registry": re.compile(
        r"pypi\.o" + r"rg|pythonhosted\.o" + r"rg|download\.pytorch\.o" + r"rg|docker\.i" + r"o/"
    ),
    "a type that is ignored without saying which error": re.compile(r"# type: igno" + r"re(?!\[)"),
    "a test that is skipped for good": re.compile(r"pytest\.mark\.(?:sk" + r"ip|xfa" + r"il)\b"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in project_files()
        for number, line in enumerate(_text(path).splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture
