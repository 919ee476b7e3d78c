"""A first look at a data file: its format, delimiter, encoding and a sample of its rows.

Decides nothing about tasks; it reads the beginning of a file (16 MiB at most) the way the
readers of ``data`` would, so that what ``init`` writes is what ``check`` reads. Imports
``api`` and ``data.sources``; pyarrow only for Parquet and Arrow.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.errors import DataError
from tunefleet.data.sources import ENDINGS, Format

READ_AT_MOST = 16 * 2**20
ROWS_AT_MOST = 50_000
_LONGEST_CELL = 4 << 20
_DELIMITERS = (",", ";", "\t", "|")
_SNIFFED_LINES = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a file, column by column, as they were written.

    ``delimiter`` and ``encoding`` are set where a reader must be told, ``ending_tells`` is
    False when the format must be. ``complete``: the sample is the whole file.
    """

    path: Path
    format: Format
    columns: Mapping[str, list[object]]
    rows: int
    complete: bool
    delimiter: str | None = None
    encoding: str | None = None
    ending_tells: bool = True


def look(path: Path) -> Sample:
    """Read a sample; raises ``DataError`` for a file that is not there or holds no table."""
    if path.is_dir():
        raise DataError(f"{path} is a folder", remedy="name one file of it, such as train.csv")
    try:
        with path.open("rb") as stream:
            raw = stream.read(READ_AT_MOST + 1)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}", remedy="check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot read {str(path)!r}: {reason}") from None
    if not raw.strip():
        raise DataError(f"{path} is empty", remedy="name a file with rows")
    complete = len(raw) <= READ_AT_MOST
    known = ENDINGS.get(path.suffix.lower())
    chosen = known or _format_by_content(raw, path)
    if chosen in {"parquet", "arrow"}:
        return _look_at_table(path, chosen, ending_tells=known is not None)
    text, encoding = _decode(raw if complete else raw[: raw.rfind(b"\n") + 1], path)
    return _look_at_text(path, chosen, text, encoding, complete, known is not None)


def _format_by_content(raw: bytes, path: Path) -> Format:
    if raw.startswith(b"PAR1"):
        return "parquet"
    if raw.startswith(b"ARROW1"):
        return "arrow"
    if raw.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")):
        raise DataError(f"{path} is packed", remedy="unpack it first")
    if b"\x00" in raw[:4096] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{path} is neither a table nor text",
            remedy="give CSV, TSV, JSON, JSONL, Parquet, Arrow or plain text",
        )
    start = raw.lstrip()
    if start.startswith(b"{"):
        return "jsonl"
    if start.startswith(b"["):
        return "json"
    return "csv" if _delimiter(raw[:65_536].decode("latin-1")) else "text"


def _decode(raw: bytes, path: Path) -> tuple[str, str | None]:
    """The text, and its encoding where it is not UTF-8."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace"), "utf-16"
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        # Bytes 0x80-0x9F are letters and quotes in cp1252, control codes in Latin-1.
        windows = any(0x80 <= byte <= 0x9F for byte in raw)
        name = "cp1252" if windows else "latin-1"
    try:
        return raw.decode(name), name
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is neither UTF-8 nor cp1252 text", remedy="save it as UTF-8"
        ) from None


def _look_at_text(
    path: Path, chosen: Format, text: str, encoding: str | None, complete: bool, told: bool
) -> Sample:
    delimiter: str | None = None
    if chosen in {"csv", "tsv"}:
        delimiter = "\t" if chosen == "tsv" else _delimiter(text) or ","
        columns, rows, whole = _cells(text, delimiter, path)
        delimiter = None if chosen == "tsv" or delimiter == "," else delimiter
    elif chosen == "text":
        lines = [line for line in text.splitlines() if line.strip()]
        columns, rows = {"text": list[object](lines[:ROWS_AT_MOST])}, min(len(lines), ROWS_AT_MOST)
        whole = rows == len(lines)
    else:
        objects, whole = _objects(text, chosen, path, complete)
        columns, rows = _by_column(objects), len(objects)
    if rows == 0:
        raise DataError(f"{path} holds no rows", remedy="name a file with rows")
    return Sample(path, chosen, columns, rows, complete and whole, delimiter, encoding, told)


def _delimiter(text: str) -> str | None:
    """The separator that cuts the first lines into the same number of cells, if there is one."""
    head = "\n".join(text.splitlines()[:_SNIFFED_LINES])
    best: tuple[float, int] = (0.0, 0)
    found = None
    for mark in _DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(head), delimiter=mark) if row]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        regular = sum(width == widths[0] for width in widths) / len(widths)
        if (regular, widths[0]) > best:
            best, found = (regular, widths[0]), mark
    return found if best[0] > 0.5 else None


def _cells(text: str, delimiter: str, path: Path) -> tuple[dict[str, list[object]], int, bool]:
    limit = csv.field_size_limit(_LONGEST_CELL)
    rows: list[list[str]] = []
    whole = True
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if len(rows) > ROWS_AT_MOST:
                whole = False
                break
            if row:
                rows.append(row)
    except csv.Error as error:
        raise DataError(
            f"{path} cannot be read as CSV near row {len(rows) + 1}: {error}",
            remedy="a quote is not closed, or a line is far too long",
        ) from None
    finally:
        csv.field_size_limit(limit)
    header = [name.strip() for name in rows[0]] if rows else []
    _check_header(header, path)
    body = rows[1:]
    columns: dict[str, list[object]] = {
        name: [row[at] if at < len(row) else "" for row in body] for at, name in enumerate(header)
    }
    return columns, len(body), whole


def _check_header(header: list[str], path: Path) -> None:
    remedy = "add a first line with the names of the columns, such as text,label"
    if any(not name for name in header):
        raise DataError(f"{path}: the first line has a column without a name", remedy=remedy)
    if any(_is_number(name) or len(name) > 200 for name in header):
        raise DataError(f"{path}: the first line looks like data, not like names", remedy=remedy)
    if len(set(header)) != len(header):
        raise DataError(
            f"{path}: the first line names a column twice",
            remedy="give every column its own name",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _objects(
    text: str, chosen: Format, path: Path, complete: bool
) -> tuple[list[Mapping[str, object]], bool]:
    try:
        if chosen == "json":
            if not complete:
                raise DataError(
                    f"{path} is larger than {READ_AT_MOST // 2**20} MiB of JSON",
                    remedy="write one object per line (JSONL), or Parquet",
                )
            found = json.loads(text)
            values = found if isinstance(found, list) else [found]
        else:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not {chosen.upper()}: {error}",
            remedy="write one JSON object per line"
            if chosen == "jsonl"
            else "write a JSON list of objects",
        ) from None
    if not all(isinstance(value, dict) for value in values):
        raise DataError(f"{path}: every row must be an object", remedy='write {"column": value, …}')
    return values[:ROWS_AT_MOST], len(values) <= ROWS_AT_MOST


def _by_column(objects: Iterable[Mapping[str, object]]) -> dict[str, list[object]]:
    rows = list(objects)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _look_at_table(path: Path, chosen: Format, *, ending_tells: bool) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if chosen == "parquet":
            with pq.ParquetFile(path) as file:
                total = file.metadata.num_rows
                batch = next(file.iter_batches(batch_size=ROWS_AT_MOST), None)
        else:
            with pa.memory_map(str(path)) as stream:
                try:
                    table = pa.ipc.open_file(stream).read_all()
                except pa.ArrowInvalid:
                    stream.seek(0)
                    table = pa.ipc.open_stream(stream).read_all()
                total = table.num_rows
                batch = table.slice(0, ROWS_AT_MOST)
        columns = {} if batch is None else {k: list(v) for k, v in batch.to_pydict().items()}
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{path} cannot be read as {chosen}: {reason}", remedy="is the file complete?"
        ) from None
    rows = len(next(iter(columns.values()), []))
    if rows == 0:
        raise DataError(f"{path} holds no rows", remedy="name a file with rows")
    return Sample(path, chosen, columns, rows, rows == total, ending_tells=ending_tells)
