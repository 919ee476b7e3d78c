"""Reads a source into a sheet, whatever its format.

Decides which reader a file gets, and how Parquet, Arrow and hub data sets become columns of
plain Python cells. Only the wanted columns are kept. Imports pyarrow and datasets where a
source needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tunefleet.api.job import HubSource
from tunefleet.data import sheet as sheets
from tunefleet.data.problems import Problems
from tunefleet.data.sheet import Piece, Sheet
from tunefleet.data.sources import Format, Source, SourceFile
from tunefleet.data.text_files import Unreadable, read_csv, read_json, read_jsonl, read_text

if TYPE_CHECKING:
    import pyarrow as pa

Reader = Callable[[SourceFile, frozenset[str], Problems], Piece]


def read(source: Source, wanted: frozenset[str], problems: Problems) -> Sheet:
    """The rows of a source. A file that cannot be read is noted and left out."""
    if source.hub is not None:
        try:
            return sheets.join(
                [(f"hub:{source.hub.name}", _read_hub(source.hub, wanted, problems))]
            )
        except Unreadable:
            return sheets.join([])
    pieces: list[tuple[str, Piece]] = []
    for file in source.files:
        try:
            pieces.append((file.name, _READERS[file.format](file, wanted, problems)))
        except Unreadable:
            continue
        except OSError as error:
            problems.add("open", f"cannot be read: {error.strerror or error}", file=file.name)
    return sheets.join(pieces)


def _read_parquet(file: SourceFile, wanted: frozenset[str], problems: Problems) -> Piece:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file.path) as parquet:
            names = tuple(parquet.schema_arrow.names)
            table = parquet.read(columns=[name for name in names if name in wanted])
            return _from_table(names, table, parquet.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        _refuse(file, "Parquet", error, problems)
        raise Unreadable from None


def _read_arrow(file: SourceFile, wanted: frozenset[str], problems: Problems) -> Piece:
    import pyarrow as pa

    try:
        with pa.memory_map(str(file.path)) as handle:
            try:
                table = pa.ipc.open_file(handle).read_all()
            except pa.ArrowInvalid:
                handle.seek(0)
                table = pa.ipc.open_stream(handle).read_all()
            names = tuple(table.column_names)
            kept = table.select([name for name in names if name in wanted])
            return _from_table(names, kept, table.num_rows)
    except (pa.ArrowException, OSError) as error:
        _refuse(file, "Arrow", error, problems)
        raise Unreadable from None


def _refuse(file: SourceFile, what: str, error: Exception, problems: Problems) -> None:
    reason = str(error).split("\n", maxsplit=1)[0].rstrip(".")
    size = file.path.stat().st_size
    problems.add(
        "binary",
        f"not a whole {what} file of {size:,} bytes: cut off or damaged ({reason})",
        file=file.name,
        remedy="copy or write the file again and compare its size with the original",
    )


def _from_table(names: tuple[str, ...], table: pa.Table, rows: int) -> Piece:
    import pyarrow as pa

    cells = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        cells[name] = column.to_pylist()
    return Piece(names=names, cells=cells, lines=np.zeros(rows, np.int64))


def _read_hub(hub: HubSource, wanted: frozenset[str], problems: Problems) -> Piece:
    import datasets

    quiet = datasets.utils.logging.get_verbosity()
    datasets.utils.logging.set_verbosity_error()
    try:
        loaded = datasets.load_dataset(hub.name, hub.config, split=hub.split, revision=hub.revision)
    except Exception as error:  # datasets raises a dozen kinds, all of them about the source
        reason = str(error).split("\n", maxsplit=1)[0]
        problems.add(
            "hub",
            f"cannot load this data set ({type(error).__name__}: {reason})",
            file=f"hub:{hub.name}",
            remedy="check name, config, split and revision, and that the hub can be reached"
            " (a private data set needs HF_TOKEN)",
        )
        raise Unreadable from None
    finally:
        datasets.utils.logging.set_verbosity(quiet)
    names = tuple(loaded.column_names)
    kept = loaded.select_columns([name for name in names if name in wanted])
    label_names = {
        name: tuple(feature.names)
        for name, feature in kept.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    piece = _from_table(names, kept.with_format("arrow")[:], len(loaded))
    cells = {
        name: _named(values, label_names[name]) if name in label_names else values
        for name, values in piece.cells.items()
    }
    return Piece(names=names, cells=cells, lines=piece.lines, label_names=label_names)


def _named(values: list[object], names: tuple[str, ...]) -> list[object]:
    """Class numbers by their names; -1 is how the hub writes "no label"."""
    return [
        names[value] if isinstance(value, int) and 0 <= value < len(names) else None
        for value in values
    ]


_READERS: dict[Format, Reader] = {
    "csv": read_csv,
    "tsv": read_csv,
    "json": read_json,
    "jsonl": read_jsonl,
    "text": read_text,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}
