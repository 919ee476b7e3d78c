"""Files that cannot be read as they are: one complaint each, with place and remedy."""

from __future__ import annotations

import io
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.conftest import Read, Refused
from tunefleet.api.errors import Problem
from tunefleet.data import text_files
from tunefleet.data.sources import SourceFile

GOOD = "text,label\n" + "".join(f"row {i},{'ab'[i % 2]}\n" for i in range(20))


def parquet(rows: int = 50) -> bytes:
    sink = io.BytesIO()
    columns = {"text": [f"row {i}" for i in range(rows)], "label": ["a", "b"] * (rows // 2)}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def arrow(rows: int = 50) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"text": ["row"] * rows, "label": ["a", "b"] * (rows // 2)})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


Case = tuple[str, bytes, dict[str, object], int | None, str, str]

CASES: dict[str, Case] = {
    "Latin-1 bytes in a UTF-8 file": (
        "rows.csv",
        "text,label\nplain,a\ncaf\xe9,b\n".encode("latin-1"),
        {},
        3,
        "byte 0xE9 at offset 22 is not utf-8",
        "encoding: latin-1",
    ),
    "Latin-1 bytes in many lines are counted": (
        "rows.jsonl",
        '{"text": "caf\xe9"}\n{"text": "ok"}\n{"text": "\xfcber"}\n'.encode("latin-1"),
        {},
        1,
        "2 lines hold such bytes",
        "encoding: latin-1",
    ),
    "Windows quotes ask for cp1252": (
        "rows.txt",
        "he said \u201cno\u201d\n".encode("cp1252"),
        {},
        1,
        "byte 0x93 at offset 8",
        "encoding: cp1252",
    ),
    "UTF-16 is recognised by its mark": (
        "rows.csv",
        GOOD.encode("utf-16"),
        {},
        1,
        "the file is UTF-16, not utf-8",
        "encoding: utf-16",
    ),
    "a semicolon file read with commas": (
        "rows.csv",
        GOOD.replace(",", ";").encode(),
        {},
        None,
        "there is no column 'text'; found: 'text;label'",
        'set delimiter: ";"',
    ),
    "a semicolon file whose texts hold commas": (
        "rows.csv",
        b"text;label\nfine, really;a\nbad, sad, mad;b\n",
        {},
        None,
        "there is no column 'label'",
        'set delimiter: ";"',
    ),
    "a tab file read with commas": (
        "rows.csv",
        GOOD.replace(",", "\t").encode(),
        {},
        None,
        "there is no column 'label'",
        "format: tsv",
    ),
    "a comma file called tsv": (
        "rows.tsv",
        GOOD.encode(),
        {},
        None,
        "found: 'text,label'",
        'delimiter: ","',
    ),
    "a quote that is never closed": (
        "rows.csv",
        b'text,label\nfine,a\n"open,b\nmore,a\nlast,b\n',
        {},
        3,
        "never closed",
        'written twice ("")',
    ),
    "a quote that closes in the middle of a cell": (
        "rows.csv",
        b'text,label\nfine,a\nfine,b\n"he said "no" to me",b\n',
        {},
        4,
        "goes on after its closing quote",
        'written twice ("")',
    ),
    "an open quote after a cell of several lines": (
        "rows.csv",
        b'text,label\n"one\ntwo\nthree",a\n"open,b\nmore,a\n',
        {},
        5,
        "never closed",
        "close the quote",
    ),
    "UTF-8 in a file that is called ASCII": (
        "rows.csv",
        "text,label\ncafé,a\n".encode(),
        {"train": {"uri": "rows.csv", "encoding": "ascii"}},
        2,
        "byte 0xC3 at offset 14 is not ascii",
        "encoding: utf-8",
    ),
    "a line of 5 MB": (
        "rows.csv",
        b"text,label\nfine,a\n" + b"x" * 5_000_000 + b",b\n",
        {},
        3,
        "5,000,003 characters; the limit is 4,194,304",
        "cut long texts into several rows",
    ),
    "a line of 5 MB in JSONL": (
        "rows.jsonl",
        b'{"text": "' + b"x" * 5_000_000 + b'", "label": "a"}\n',
        {},
        1,
        "the limit is 4,194,304",
        "line ends",
    ),
    "a row with too few cells": (
        "rows.csv",
        b"text,label\nfine,a\nalone\nfine,b\n",
        {},
        3,
        "1 cell where the header has 2",
        "double quotes",
    ),
    "a row with too many cells": (
        "rows.csv",
        b"text,label\nfine, is it,a\n",
        {},
        2,
        "3 cells where the header has 2",
        "double quotes",
    ),
    "a column that stands twice": (
        "rows.csv",
        b"text,label,text\na,b,c\n",
        {},
        1,
        "column text stands twice",
        "its own name",
    ),
    "an empty file": ("rows.csv", b"", {}, None, "the file is empty", "remove it"),
    "a JSON file with a missing comma": (
        "rows.json",
        b'[\n{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n]',
        {},
        3,
        "Expecting ',' or ']'",
        "JSON array of objects",
    ),
    "a JSON file that ends too early": (
        "rows.json",
        b'[\n{"text": "a", "label": "x"},\n{"text": "b", "la',
        {},
        3,
        "Unterminated string",
        "JSON array of objects",
    ),
    "JSON lines in a file called .json": (
        "rows.json",
        b'{"text": "a"}\n{"text": "b"}\n',
        {},
        1,
        "Expecting '['",
        "format: jsonl",
    ),
    "a JSON array in a file called .jsonl": (
        "rows.jsonl",
        b'[{"text": "a"},\n{"text": "b"}]\n',
        {},
        1,
        "not JSON",
        "format: json",
    ),
    "a broken line in JSONL": (
        "rows.jsonl",
        b'{"text": "a", "label": "x"}\n\n{"text": "b", "label": }\n',
        {},
        3,
        "not JSON: Expecting value at column 24",
        "one complete JSON object per line",
    ),
    "a JSON row that is no object": (
        "rows.jsonl",
        b'{"text": "a", "label": "x"}\n"text"\n',
        {},
        2,
        "a row must be an object, not a string",
        "column",
    ),
    "Parquet cut off in the middle": (
        "rows.parquet",
        parquet()[: len(parquet()) // 2],
        {},
        None,
        "not a whole Parquet file",
        "copy or write the file again",
    ),
    "an empty Parquet file": (
        "rows.parquet",
        b"",
        {},
        None,
        "not a whole Parquet file of 0 bytes",
        "copy or write the file again",
    ),
    "Arrow cut off in the middle": (
        "rows.arrow",
        arrow()[:300],
        {},
        None,
        "not a whole Arrow file",
        "copy or write the file again",
    ),
    "CSV called Parquet": (
        "rows.parquet",
        GOOD.encode(),
        {},
        None,
        "not a whole Parquet file",
        "copy or write",
    ),
    "a header that is not there": (
        "rows.csv",
        b"a nice film,good\na bad film,bad\n",
        {},
        None,
        "there is no column 'text'; found: 'a nice film', 'good'",
        "data.columns: {text: …}",
    ),
    "a column in another spelling": (
        "rows.csv",
        GOOD.replace("text,", "Text,").encode(),
        {},
        None,
        "there is no column 'text'",
        "data.columns: {text: Text}",
    ),
    "a mapped column that is not there": (
        "rows.csv",
        b"review,label\na,b\n",
        {"columns": {"text": "revew"}},
        None,
        "there is no column 'revew'",
        "did you mean 'review'?",
    ),
    "an ending that says nothing": (
        "rows.dat",
        GOOD.encode(),
        {},
        None,
        "cannot tell the format of rows.dat",
        "set format to csv",
    ),
    "a packed file": (
        "rows.csv.gz",
        b"\x1f\x8b",
        {},
        None,
        "cannot tell the format",
        "unpack the file first",
    ),
}


@pytest.mark.parametrize(
    ("name", "content", "data", "line", "message", "remedy"),
    [pytest.param(*case, id=title) for title, case in CASES.items()],
)
def test_a_bad_file(
    refused: Refused,
    name: str,
    content: bytes,
    data: dict[str, object],
    line: int | None,
    message: str,
    remedy: str,
) -> None:
    problems = refused({name: content}, {"train": {"uri": name}, **data})
    found = next((p for p in problems if message in p.message), None)
    assert found is not None, problems
    assert found.file == name
    assert found.line == line
    assert remedy in _remedy(problems, found)


def _remedy(problems: list[Problem], found: Problem) -> str:
    """The remedy of like problems stands with the last of them."""
    return found.remedy or problems[-1].remedy


def test_all_files_are_complained_of_at_once(refused: Refused) -> None:
    files: dict[str, str | bytes] = {
        "a.csv": b"text,label\ncaf\xe9,a\n",
        "b.csv": b'text,label\n"open,b\n',
        "c.csv": b"text,label\nalone\n",
        "d.csv": b"review,label\nfine,a\n",
    }
    problems = refused(files, {"train": {"uri": "*.csv"}, "validation": {"uri": "held.csv"}})
    assert {p.file for p in problems} == {"a.csv", "b.csv", "c.csv", "d.csv", ""}
    assert any("no file matches held.csv" in p.message for p in problems)


def test_a_thousand_bad_rows_make_a_short_message(refused: Refused) -> None:
    rows = "text,label\n" + "alone\n" * 1000
    problems = refused({"rows.csv": rows}, {"train": {"uri": "rows.csv"}})
    assert [p.line for p in problems] == [2, 3, 4]
    assert "(and 997 more like this)" in problems[-1].message
    assert [bool(p.remedy) for p in problems] == [False, False, True]


URIS: dict[str, tuple[object, str, str]] = {
    "a name that is nearly right": (
        {"uri": "data/revews.csv"},
        "no file matches data/revews.csv",
        "did you mean reviews.csv (in data)?",
    ),
    "a glob that matches nothing": (
        {"uri": "data/*.feather"},
        "no file matches data/*.feather",
        "in data there are: other.jsonl, reviews.csv, rows.parquet",
    ),
    "a folder that is not there": (
        {"uri": "dta/reviews.csv"},
        "no file matches dta/reviews.csv",
        "did you mean data (beside the job file)?",
    ),
    "a folder": ({"uri": "data"}, "data is a folder", "write data/*.csv"),
    "a delimiter for JSON lines": (
        {"uri": "data/other.jsonl", "delimiter": ";"},
        "delimiter has no effect with jsonl files",
        "remove it",
    ),
    "an encoding for Parquet": (
        {"uri": "data/rows.parquet", "encoding": "latin-1"},
        "encoding has no effect with parquet files",
        "remove it",
    ),
}


@pytest.mark.parametrize(
    ("source", "message", "remedy"), [pytest.param(*case, id=name) for name, case in URIS.items()]
)
def test_a_source_that_names_nothing_to_read(
    refused: Refused, source: object, message: str, remedy: str
) -> None:
    files: dict[str, str | bytes] = {
        "data/reviews.csv": GOOD,
        "data/other.jsonl": "{}",
        "data/rows.parquet": b"",
    }
    problems = refused(files, {"train": source, "validation": {"fraction": 0.5}})
    found = next(p for p in problems if message in p.message)
    assert found.where.startswith("spec.data.train.")
    assert remedy in found.remedy


def test_a_file_that_may_not_be_opened_says_so(
    read: Read, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by file modes: whoever may do everything (root) could still read it."""
    opened = text_files._open

    def deny(file: SourceFile, newline: str | None = None) -> IO[str]:
        if file.name == "b.csv":
            raise PermissionError(13, "Permission denied")
        return opened(file, newline)

    monkeypatch.setattr(text_files, "_open", deny)
    problems = refused({"a.csv": GOOD, "b.csv": GOOD}, {"train": {"uri": "*.csv"}})
    assert [str(p) for p in problems] == ["b.csv: cannot be read: Permission denied"]
    assert len(read({}, {"train": {"uri": "a.csv"}}).rows["train"]) == 18
