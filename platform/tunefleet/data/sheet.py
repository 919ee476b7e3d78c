"""A sheet: the rows of a source as they were written, before any conversion.

Decides nothing; it carries cells with the file and line each row came from, so that every
later complaint can name the place. Imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one file: the wanted cells, all column names, lines (0: none)."""

    names: tuple[str, ...]
    cells: dict[str, list[object]]
    lines: npt.NDArray[np.int64]
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of all files of a source, in order.

    ``names`` are the columns of each file; a column that one file lacks holds ``None``
    there. ``label_names`` are the class names a hub data set declares, by column.
    """

    names: tuple[tuple[str, ...], ...]
    cells: dict[str, list[object]]
    files: tuple[str, ...]
    file_of: npt.NDArray[np.int32]
    lines: npt.NDArray[np.int64]
    label_names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, position: int) -> tuple[str, int | None, str]:
        """File, line, and words for the row where its format has no lines."""
        file = int(self.file_of[position])
        line = int(self.lines[position])
        if line:
            return self.files[file], line, ""
        first = int(np.searchsorted(self.file_of, file))
        return self.files[file], None, f" (row {position - first + 1:,})"


def join(pieces: Sequence[tuple[str, Piece]]) -> Sheet:
    """Pieces (with the names of their files) as one sheet, in order."""
    columns = list(dict.fromkeys(name for _, piece in pieces for name in piece.cells))
    cells: dict[str, list[object]] = {}
    for name in columns:
        cells[name] = []
        for _, piece in pieces:
            given = piece.cells.get(name)
            cells[name].extend([None] * len(piece) if given is None else given)
    counts = [len(piece) for _, piece in pieces]
    return Sheet(
        names=tuple(piece.names for _, piece in pieces),
        cells=cells,
        files=tuple(name for name, _ in pieces),
        file_of=np.repeat(np.arange(len(pieces), dtype=np.int32), counts),
        lines=np.concatenate([piece.lines for _, piece in pieces] or [np.zeros(0, np.int64)]),
        label_names={k: v for _, piece in pieces for k, v in piece.label_names.items()},
    )
