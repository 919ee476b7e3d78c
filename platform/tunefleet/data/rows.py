"""The rows of a split on disk: ``rows.arrow`` beside its token store, and their digest.

Decides how cells are written (texts as UTF-8, labels as integers, lists and chats as JSON
text), so that a report or a bundle can show the rows behind the numbers, and what "the same
rows" means: equal column buffers, which Arrow's format fixes. Imports pyarrow where needed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunefleet.data.tokens import Rows

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "rows.arrow"
_BATCH = 65_536
_PLACES = ("ids", "file_of", "lines")


def save_rows(folder: Path, rows: Rows) -> None:
    """Write ``rows.arrow`` into the folder, whole or not at all."""
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{FILE}.{os.getpid()}"
    table = to_table(rows)
    try:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=_BATCH)
        os.replace(draft, folder / FILE)
    finally:
        draft.unlink(missing_ok=True)


def load_rows(folder: Path, start: int = 0, stop: int | None = None) -> Rows:
    """Read ``rows.arrow`` back, or the rows from ``start`` to ``stop`` of it."""
    import pyarrow as pa

    with pa.memory_map(str(folder / FILE)) as source:
        table = pa.ipc.open_file(source).read_all()
        length = table.num_rows if stop is None else stop - start
        return from_table(table.slice(start, length))


def to_table(rows: Rows) -> pa.Table:
    """Rows as an Arrow table; how a column was written stands in its field's metadata."""
    import pyarrow as pa

    arrays, fields = [], []
    for name, values in rows.columns.items():
        array, kind = _to_array(values)
        arrays.append(array)
        fields.append(pa.field(f"column.{name}", array.type, metadata={"kind": kind}))
    for name in _PLACES:
        values = getattr(rows, name)
        if len(values) == len(rows):
            arrays.append(pa.array(values))
            fields.append(pa.field(name, arrays[-1].type))
    return pa.table(arrays, schema=pa.schema(fields, {"files": json.dumps(rows.files)}))


def from_table(table: pa.Table) -> Rows:
    """The rows of a table made by :func:`to_table`."""
    columns: dict[str, list[Any]] = {}
    places: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name)
        if field.name in _PLACES:
            places[field.name] = column.to_numpy()
            continue
        values = column.to_pylist()
        if field.metadata[b"kind"] == b"json":
            values = [json.loads(value) for value in values]
        columns[field.name.removeprefix("column.")] = values
    files = json.loads(table.schema.metadata[b"files"])
    return Rows(columns=columns, files=tuple(files), **places)


def _to_array(values: Sequence[Any]) -> tuple[pa.Array, str]:
    import pyarrow as pa

    first = values[0] if len(values) else ""
    if isinstance(first, str):
        return pa.array(values, pa.large_string()), "plain"
    if isinstance(first, int):
        return pa.array(values, pa.int64()), "plain"
    if isinstance(first, float):
        return pa.array(values, pa.float64()), "plain"
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    return pa.array(texts, pa.large_string()), "json"


def digest_rows(rows: Rows) -> str:
    """A digest of ids and cells (not of the files they came from), in hexadecimal."""
    digest = hashlib.sha256(b"tunefleet rows 1")
    digest.update(np.ascontiguousarray(rows.ids, np.int64).data)
    for name, values in rows.columns.items():
        array, kind = _to_array(values)
        digest.update(json.dumps([name, kind, str(array.type), len(array)]).encode())
        for content in _contents(array):
            digest.update(content)
    return digest.hexdigest()


def _contents(array: pa.Array) -> list[memoryview]:
    """The buffers of an array as far as they carry content: numbers, or offsets and text."""
    validity, *rest = array.buffers()
    assert validity is None, "converted columns have no empty cells"
    if len(rest) == 1:
        return [memoryview(rest[0])[: 8 * len(array)]]
    offsets, text = rest
    ends = np.frombuffer(offsets, np.int64, count=len(array) + 1)
    written = memoryview(text)[: int(ends[-1])] if text is not None else memoryview(b"")
    return [memoryview(offsets)[: ends.nbytes], written]
