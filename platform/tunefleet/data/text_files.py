"""Readers of text formats: CSV, TSV, JSON, JSONL and plain text.

Decides the limits and the strictness: bytes must be of the named encoding, quotes must
close, every row must have as many cells as the header, and no line may pass ``LINE_LIMIT``.
A complaint names file and line and says what to do. Imports the standard library and numpy.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import IO, NoReturn

import numpy as np

from tunefleet.data.problems import Problems
from tunefleet.data.sheet import Piece
from tunefleet.data.sources import SourceFile

LINE_LIMIT = 4 << 20
"""Characters in a line (and in a cell). Longer ones are a broken file, not a text to learn."""

DELIMITERS = {",": '","', ";": '";"', "\t": "format: tsv", "|": '"|"'}


class Unreadable(Exception):
    """A file that cannot be read any further; the problem has been noted."""


def read_csv(file: SourceFile, wanted: frozenset[str], problems: Problems) -> Piece:
    """Rows of a delimited file whose first line holds the column names."""
    limit = csv.field_size_limit(LINE_LIMIT)
    try:
        with _open(file, newline="") as handle:
            return _read_csv(file, handle, wanted, problems)
    except UnicodeError as error:
        _refuse_encoding(file, error, problems)
    finally:
        csv.field_size_limit(limit)


def _read_csv(
    file: SourceFile, handle: IO[str], wanted: frozenset[str], problems: Problems
) -> Piece:
    reader = csv.reader(_limited(handle, file, problems), delimiter=file.delimiter, strict=True)
    start = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, file, problems)
        # One column that holds another delimiter: the missing columns are the complaint to
        # make (columns.py does), not a thousand rows of another width.
        narrow = len(header) == 1 and any(mark in header[0] for mark in DELIMITERS)
        picks = [(at, name, list[object]()) for at, name in enumerate(header) if name in wanted]
        width = len(header)
        lines: list[int] = []
        start = reader.line_num + 1
        for row in reader:
            line, start = start, reader.line_num + 1
            if len(row) != width:
                if not row:
                    continue
                if not narrow:
                    _note_ragged(file, line, len(row), width, problems)
                row = (row + [""] * width)[:width]  # noqa: PLW2901
            lines.append(line)
            for at, _, cells in picks:
                cells.append(row[at])
    except csv.Error as error:
        _refuse_quote(file, start, str(error), problems)
    return Piece(
        names=tuple(header),
        cells={name: cells for _, name, cells in picks},
        lines=np.array(lines, np.int64),
    )


def _check_header(header: list[str], file: SourceFile, problems: Problems) -> None:
    if not any(header):
        problems.add("empty", "the file is empty", file=file.name, remedy="remove it")
        raise Unreadable
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        problems.add(
            "column twice",
            f"column {', '.join(twice)} stands twice in the header",
            file=file.name,
            line=1,
            remedy="give every column its own name",
        )
        raise Unreadable


def _note_ragged(file: SourceFile, line: int, cells: int, width: int, problems: Problems) -> None:
    mark = {"\t": "a tab"}.get(file.delimiter, repr(file.delimiter))
    problems.add(
        "ragged",
        f"{cells} {'cell' if cells == 1 else 'cells'} where the header has {width}",
        file=file.name,
        line=line,
        remedy=f"put cells that contain {mark} into double quotes, or complete the row",
    )


def _refuse_quote(file: SourceFile, line: int, message: str, problems: Problems) -> NoReturn:
    if "unexpected end of data" in message or "larger than field limit" in message:
        text = "a double quote opens a cell in this row and is never closed"
    elif "expected after" in message:
        text = "a quoted cell of this row goes on after its closing quote"
    else:
        text = f"this row cannot be read as CSV ({message})"
    problems.add(
        "quote",
        text,
        file=file.name,
        line=line,
        remedy='close the quote; a double quote inside a quoted cell is written twice ("")',
    )
    raise Unreadable


def read_jsonl(file: SourceFile, wanted: frozenset[str], problems: Problems) -> Piece:
    """One JSON object per line; blank lines are skipped."""
    rows = _Objects(file, wanted, problems)
    try:
        with _open(file) as handle:
            for number, line in enumerate(_limited(handle, file, problems), 1):
                if line.isspace():
                    continue
                try:
                    rows.add(json.loads(line), number)
                except json.JSONDecodeError as error:
                    problems.add(
                        "json",
                        f"not JSON: {error.msg} at column {error.colno}",
                        file=file.name,
                        line=number,
                        remedy="write one complete JSON object per line"
                        + (" (a JSON array is format: json)" if line.startswith("[") else ""),
                    )
    except UnicodeError as error:
        _refuse_encoding(file, error, problems)
    return rows.piece()


def read_json(file: SourceFile, wanted: frozenset[str], problems: Problems) -> Piece:
    """A JSON array of objects."""
    try:
        with _open(file) as handle:
            text = handle.read()
    except UnicodeError as error:
        _refuse_encoding(file, error, problems)
    rows = _Objects(file, wanted, problems)
    try:
        for value, line in _elements(text):
            rows.add(value, line)
    except json.JSONDecodeError as error:
        jsonl = "[" not in text[:1] and error.msg.startswith("Expecting '['")
        problems.add(
            "json",
            f"not JSON: {error.msg} at column {error.colno}",
            file=file.name,
            line=error.lineno,
            remedy="if each line is one object, set format: jsonl"
            if jsonl
            else "the file must be one JSON array of objects",
        )
        raise Unreadable from None
    return rows.piece()


def _elements(text: str) -> Iterator[tuple[object, int]]:
    """The elements of a JSON array, each with the line it begins on."""
    decode = json.JSONDecoder().raw_decode
    at, line, counted = _skip(text, 0), 1, 0
    if text[at : at + 1] != "[":
        raise json.JSONDecodeError("Expecting '['", text, at)
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        at += 1
    else:
        while True:
            line, counted = line + text.count("\n", counted, at), at
            value, at = decode(text, at)
            yield value, line
            at = _skip(text, at)
            mark, at = text[at : at + 1], at + 1
            if mark == "]":
                break
            if mark != ",":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at - 1)
            at = _skip(text, at)
    at = _skip(text, at)
    if at < len(text):
        raise json.JSONDecodeError("Extra data after the array", text, at)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in {" ", "\t", "\n", "\r"}:
        at += 1
    return at


class _Objects:
    """Collects JSON objects column by column; a key that a row lacks is ``None`` there."""

    def __init__(self, file: SourceFile, wanted: frozenset[str], problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._names: dict[str, None] = {}
        self._cells: dict[str, list[object]] = {name: [] for name in wanted}
        self._lines: list[int] = []

    def add(self, value: object, line: int) -> None:
        if not isinstance(value, dict):
            self._problems.add(
                "json row",
                f"a row must be an object, not {_kind(value)}",
                file=self._file.name,
                line=line,
                remedy='write rows as {"column": value, …}',
            )
            return
        self._names.update(dict.fromkeys(value))
        self._lines.append(line)
        for name, cells in self._cells.items():
            cells.append(value.get(name))

    def piece(self) -> Piece:
        return Piece(
            names=tuple(self._names),
            cells={name: cells for name, cells in self._cells.items() if name in self._names},
            lines=np.array(self._lines, np.int64),
        )


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def read_text(file: SourceFile, wanted: frozenset[str], problems: Problems) -> Piece:
    """One row per line under the column ``text``; blank lines are skipped."""
    cells: list[object] = []
    lines: list[int] = []
    try:
        with _open(file) as handle:
            for number, line in enumerate(_limited(handle, file, problems), 1):
                text = line.rstrip("\r\n")
                if text.strip():
                    cells.append(text)
                    lines.append(number)
    except UnicodeError as error:
        _refuse_encoding(file, error, problems)
    kept = {"text": cells} if "text" in wanted else {}
    return Piece(names=("text",), cells=kept, lines=np.array(lines, np.int64))


def _open(file: SourceFile, newline: str | None = None) -> IO[str]:
    """Open for reading; a byte order mark at the start of UTF-8 is accepted."""
    plain = file.encoding.lower().replace("_", "-") in {"utf-8", "utf8"}
    return file.path.open(encoding="utf-8-sig" if plain else file.encoding, newline=newline)


def _limited(handle: IO[str], file: SourceFile, problems: Problems) -> Iterator[str]:
    for number, line in enumerate(handle, 1):
        if len(line) > LINE_LIMIT:
            problems.add(
                "long line",
                f"this line has {len(line):,} characters; the limit is {LINE_LIMIT:,}",
                file=file.name,
                line=number,
                remedy="check the file's line ends and quotes; cut long texts into several rows",
            )
            raise Unreadable
        yield line


def _refuse_encoding(file: SourceFile, error: UnicodeError, problems: Problems) -> NoReturn:
    """Find the first byte that does not fit, and how many lines hold such bytes."""
    with file.path.open("rb") as handle:
        start = handle.read(2)
    if start in {b"\xff\xfe", b"\xfe\xff"} and "16" not in file.encoding:
        problems.add(
            "encoding",
            f"the file is UTF-16, not {file.encoding}",
            file=file.name,
            line=1,
            remedy="encoding: utf-16",
        )
        raise Unreadable
    offset = line = bad_lines = position = byte = 0
    seen = b""
    also_utf8 = True
    with file.path.open("rb") as handle:
        for number, raw in enumerate(handle, 1):
            also_utf8 = also_utf8 and _decodes(raw, "utf-8")
            try:
                raw.decode(file.encoding)
            except UnicodeError as wrong:
                bad_lines += 1
                seen += bytes(b for b in raw if b > 0x7F)[:64]
                if bad_lines == 1:
                    at = wrong.start if isinstance(wrong, UnicodeDecodeError) else 0
                    line, offset, byte = number, position + at, raw[at]
            position += len(raw)
    if not bad_lines:
        message, line = f"the file cannot be read as {file.encoding}: {error}", 0
    else:
        many = f"; {bad_lines:,} lines hold such bytes" if bad_lines > 1 else ""
        message = f"byte 0x{byte:02X} at offset {offset:,} is not {file.encoding}{many}"
    windows = any(0x80 <= b <= 0x9F for b in seen)
    remedy = "utf-8" if also_utf8 else "cp1252" if windows else "latin-1"
    problems.add(
        "encoding",
        message,
        file=file.name,
        line=line or None,
        remedy=f"encoding: {remedy}" + ("" if also_utf8 else ", or save the file as UTF-8"),
    )
    raise Unreadable


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
