"""Rows to answer, read out of a file.

Decides how a file of rows is read (its format by its ending, its encoding and delimiter as the
training data had them, where nothing else is said) and how its columns become a model's inputs.
Imports ``api`` and ``evaluate`` records; data readers only inside functions.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tunefleet.api import rules
from tunefleet.api.errors import DataError, Problem, SpecError
from tunefleet.evaluate.bundle import BundleTask
from tunefleet.evaluate.inputs import single_text

if TYPE_CHECKING:
    from tunefleet.data.problems import Problems
    from tunefleet.data.sheet import Sheet
    from tunefleet.data.sources import Format, SourceFile

Item = Mapping[str, object]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """An item to answer. ``row`` counts from 1; ``line`` is where it stands in its file."""

    row: int
    item: Item
    line: int | None = None
    id: object = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read; ``None`` leaves it to the file and the training data."""

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None

    @staticmethod
    def of(format: str | None, encoding: str | None, delimiter: str | None) -> Reading:
        """Options as they were given, checked as in a job file; raises ``SpecError``."""
        from tunefleet.data.sources import ENDINGS

        known = {name: name for name in ENDINGS.values()}
        if format is not None and format not in known:
            raise SpecError(
                f"--format: there is no format {format!r}", remedy=f"known are {', '.join(known)}"
            )
        if delimiter is not None and len(delimiter) != 1:
            raise SpecError(
                f"--delimiter: {delimiter!r} is not one character",
                remedy="give one character such as ';'",
            )
        broken = rules.file_options("-", format, encoding or "utf-8", delimiter, files=True)
        for rule in broken:
            raise SpecError(f"--{rule.at[0]}: {rule.message}", remedy=_as_options(rule.remedy))
        return Reading(known[format] if format else None, encoding, delimiter)


def read_rows(facts: BundleTask, file: str | Path, reading: Reading) -> list[Row]:
    """The rows of a file (``-``: standard input), each column found under one of its names.

    Raises ``DataError`` with file and line.
    """
    from tunefleet.data.problems import Problems

    names = {column.name: _names(facts, column.name) for column in facts.columns}
    wanted = frozenset({"id", *(name for known in names.values() for name in known)})
    problems = Problems()
    sheet = _sheet(facts, file, reading, wanted, problems)
    if problems:
        told = [_for_options(problem) for problem in problems.listed()]
        raise DataError(f"{file} cannot be read:", problems=told)
    assert sheet is not None
    present = set(sheet.cells)
    sources = {column: _present(known, present) for column, known in names.items()}
    missing = [c.name for c in facts.columns if c.required and sources[c.name] is None]
    if missing and len(sheet):
        found = sorted({name for each in sheet.names for name in each})
        raise DataError(
            f"{file} has no column {missing[0]!r} (it has {', '.join(found)})",
            remedy=_another_delimiter(found) or f"name a column {' or '.join(names[missing[0]])}",
        )
    if not len(sheet):
        raise DataError(f"{file} holds no rows")
    return [
        _row(facts, sheet.cells, sources, position, sheet.place(position)[1])
        for position in range(len(sheet))
    ]


def _sheet(
    facts: BundleTask,
    file: str | Path,
    reading: Reading,
    wanted: frozenset[str],
    problems: Problems,
) -> Sheet | None:
    from tunefleet.api.job import SourceSpec
    from tunefleet.data.readers import read
    from tunefleet.data.sources import Source, resolve

    with _standard_input(file) as path:
        if path is None:
            given = {k: v for k, v in dataclasses.asdict(reading).items() if v is not None}
            source = resolve(SourceSpec(uri=str(file), **given), Path.cwd(), "file", problems)
        else:
            source = Source(files=(_typed_input(path, reading),))
        if source is None:
            return None
        files = tuple(_as_trained(one, facts, reading) for one in source.files)
        return read(dataclasses.replace(source, files=files), wanted, problems)


def _as_trained(file: SourceFile, facts: BundleTask, reading: Reading) -> SourceFile:
    """A file with the training data's way of writing, as far as nothing else was said.

    Bytes that are UTF-8 are never taken for anything else.
    """
    if reading.delimiter is None and file.format == "csv" and facts.delimiter is not None:
        file = dataclasses.replace(file, delimiter=facts.delimiter)
    textual = file.format not in {"parquet", "arrow"}
    if reading.encoding is None and textual and not _is_utf8(file.path):
        file = dataclasses.replace(file, encoding=facts.encoding)
    return file


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(_CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    except OSError:
        return True  # The reader tells what is wrong.
    return True


def _row(
    facts: BundleTask,
    cells: Mapping[str, Sequence[object]],
    sources: Mapping[str, str | None],
    position: int,
    line: int | None,
) -> Row:
    item: dict[str, object] = {}
    for column in facts.columns:
        source = sources[column.name]
        value = cells[source][position] if source is not None else None
        if column.kind == "messages" and isinstance(value, str):
            value = _messages(value)
        if value is not None and (value != "" or column.required):
            item[column.name] = value
    ids = cells.get("id")
    return Row(position + 1, item, line, ids[position] if ids is not None else None)


def _messages(cell: str) -> object:
    """A conversation in a table's cell is written as JSON; anything else is told as wrong."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _names(facts: BundleTask, column: str) -> list[str]:
    """What a file may call a column: as in the training data, as in the task, or ``text``."""
    names = [facts.sources.get(column, column), column]
    if single_text(facts.columns) == column:
        names.append("text")
    return list(dict.fromkeys(names))


def _present(names: Iterable[str], present: set[str]) -> str | None:
    return next((name for name in names if name in present), None)


def _another_delimiter(names: Sequence[str]) -> str:
    """What to say where all columns stand in one."""
    from tunefleet.data.text_files import DELIMITERS

    if len(names) == 1:
        for mark in DELIMITERS:
            if mark in names[0]:
                option = "--format tsv" if mark == "\t" else f'--delimiter "{mark}"'
                return f"the only column found contains {mark!r}: give {option}"
    return ""


def _for_options(problem: Problem) -> Problem:
    """A problem of a file in the words of the command line (a job file has fields instead)."""
    where = f"--{problem.where.rpartition('.')[2]}" if problem.where.startswith("file.") else ""
    where = where.replace("--uri", "--file") or problem.where
    return dataclasses.replace(problem, where=where, remedy=_as_options(problem.remedy))


def _as_options(remedy: str) -> str:
    for name in ("encoding", "format"):
        remedy = remedy.replace(f"set {name} to ", f"give --{name}: ")
        remedy = remedy.replace(f"set {name}: ", f"give --{name} ")
        remedy = remedy.replace(f"{name}: ", f"--{name} ")
    return remedy.replace("----", "--")


@contextmanager
def _standard_input(file: str | Path) -> Iterator[Path | None]:
    """Standard input as a file, when ``file`` is ``-``: readers look twice at bad bytes."""
    if str(file) != "-":
        yield None
        return
    folder = Path(mkdtemp(prefix="tunefleet-predict-"))
    path = folder / "stdin"
    try:
        path.write_bytes(sys.stdin.buffer.read())
        yield path
    finally:
        path.unlink(missing_ok=True)
        folder.rmdir()


def _typed_input(path: Path, reading: Reading) -> SourceFile:
    from tunefleet.data.sources import SourceFile

    with path.open("rb") as handle:
        first = next((line for line in handle if line.strip()), b"")
    kind: Format = "jsonl" if first.lstrip().startswith(b"{") else "text"
    kind = reading.format or ("csv" if reading.delimiter is not None else kind)
    delimiter = "\t" if kind == "tsv" else reading.delimiter or ","
    return SourceFile(path, "stdin", kind, reading.encoding or "utf-8", delimiter)
