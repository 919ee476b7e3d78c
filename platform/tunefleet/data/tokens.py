"""Rows in, units out: the tokenised form of a split and its memory-mapped store on disk.

Decides the store's layout: one folder per split, flat ``.npy`` arrays, ``store.json``
written last, the folder renamed into place, so that a half-written store is never read.
Imports numpy and ``api``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import numpy.typing as npt

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a split, column by column, under the task's column names.

    ``ids`` [n] int64 are stable sample ids (the row's position in the whole input).
    ``files`` and ``lines`` tell where each row was written: ``files[file_of[i]]``,
    line ``lines[i]`` (from 1; 0 where the format has no lines).
    """

    columns: Mapping[str, Sequence[Any]]
    ids: npt.NDArray[np.int64]
    files: tuple[str, ...] = ()
    file_of: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    lines: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: npt.NDArray[np.int64]) -> Rows:
        """The rows at these positions, in this order."""
        return Rows(
            columns={name: [cells[i] for i in positions] for name, cells in self.columns.items()},
            ids=self.ids[positions],
            files=self.files,
            file_of=self.file_of[positions] if len(self.file_of) else self.file_of,
            lines=self.lines[positions] if len(self.lines) else self.lines,
        )

    def part(self, start: int, stop: int) -> Rows:
        """The rows from ``start`` up to ``stop``."""
        return Rows(
            columns={name: cells[start:stop] for name, cells in self.columns.items()},
            ids=self.ids[start:stop],
            files=self.files,
            file_of=self.file_of[start:stop],
            lines=self.lines[start:stop],
        )

    def place(self, position: int) -> tuple[str, int | None]:
        """File and line of a row ("" and None where unknown)."""
        file = self.files[self.file_of[position]] if len(self.file_of) else ""
        line = int(self.lines[position]) if len(self.lines) else 0
        return file, line or None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Units of some rows.

    ``ragged``: per name a flat array; unit ``i`` is ``flat[offsets[i]:offsets[i + 1]]``; all
    names share ``offsets`` [units + 1]. ``input_ids`` is always there. ``fixed``: per name an
    array whose first dimension is units (labels). ``ids`` [units]: the sample id of each
    unit. ``weights`` [units] int64: examples or supervised tokens. ``truncated``: units that
    were cut to the maximum length.
    """

    ragged: Mapping[str, npt.NDArray[np.int32]]
    offsets: npt.NDArray[np.int64]
    fixed: Mapping[str, npt.NDArray[np.generic]]
    ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def join(parts: Sequence[Encoded]) -> Encoded:
    """Units of several parts as one, in order. Raises ``ValueError`` for no parts."""
    if not parts:
        raise ValueError("nothing to join")
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Encoded(
        ragged={n: np.concatenate([p.ragged[n] for p in parts]) for n in parts[0].ragged},
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        fixed={n: np.concatenate([p.fixed[n] for p in parts]) for n in parts[0].fixed},
        ids=np.concatenate([p.ids for p in parts]),
        weights=np.concatenate([p.weights for p in parts]),
        truncated=sum(p.truncated for p in parts),
    )


class TokenStore:
    """A split's units on disk, memory-mapped; safe to open in many processes.

    ``padding`` gives the value each ragged name is padded with (0 where not given).
    """

    def __init__(self, folder: Path) -> None:
        header = json.loads((folder / "store.json").read_text())
        if header["version"] != _VERSION:
            raise ValueError(f"{folder} was written by another version of tunefleet; delete it")
        self.folder = folder
        self.padding: dict[str, int] = header["padding"]
        self.truncated: int = header["truncated"]
        self.offsets: npt.NDArray[np.int64] = _open(folder, "offsets")
        self.lengths: npt.NDArray[np.int64] = np.diff(self.offsets)
        self.longest = int(self.lengths.max(initial=0))
        self.ids: npt.NDArray[np.int64] = _open(folder, "ids")
        self.weights: npt.NDArray[np.int64] = _open(folder, "weights")
        self.ragged = {name: _open(folder, f"ragged.{name}") for name in header["ragged"]}
        self.fixed = {name: _open(folder, f"fixed.{name}") for name in header["fixed"]}

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def write(folder: Path, encoded: Encoded, padding: Mapping[str, int]) -> TokenStore:
        """Write a store and open it. A store that already stands there is kept."""
        return TokenStore.write_parts(folder, [encoded], padding)

    @staticmethod
    def write_parts(
        folder: Path, parts: Iterable[Encoded], padding: Mapping[str, int]
    ) -> TokenStore:
        """Like :meth:`write`, part after part, with no more than one part in memory."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(dir=folder.parent, prefix=".draft-"))
        try:
            _write_draft(draft, parts, padding)
            try:
                os.rename(draft, folder)
            except OSError:
                # Somebody else was faster. Anything but a store is in the way.
                if not (folder / "store.json").exists():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return TokenStore(folder)


def _write_draft(draft: Path, parts: Iterable[Encoded], padding: Mapping[str, int]) -> None:
    files: dict[str, _Growing] = {}
    ragged: list[str] = []
    fixed: list[str] = []
    tokens = units = truncated = 0
    try:
        for part in parts:
            offsets = part.offsets[1:] + tokens
            arrays: dict[str, npt.NDArray[np.generic]] = {
                "offsets": offsets if files else np.concatenate([[0], offsets]),
                "ids": part.ids,
                "weights": part.weights,
                **{f"ragged.{name}": flat for name, flat in part.ragged.items()},
                **{f"fixed.{name}": values for name, values in part.fixed.items()},
            }
            if not files:
                ragged, fixed = list(part.ragged), list(part.fixed)
                files = {name: _Growing(draft / f"{name}.npy") for name in arrays}
            for name, array in arrays.items():
                files[name].append(array)
            tokens += int(part.offsets[-1])
            units += len(part)
            truncated += part.truncated
    finally:
        for file in files.values():
            file.close()
    if not files:
        raise ValueError("nothing to write")
    header = {
        "version": _VERSION,
        "units": units,
        "truncated": truncated,
        "ragged": ragged,
        "fixed": fixed,
        "padding": dict(padding),
    }
    (draft / "store.json").write_text(json.dumps(header))


class _Growing:
    """An ``.npy`` file that is appended to; its header leaves room for the final length."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("w+b")
        self._rows = 0
        self._rest: tuple[int, ...] = ()
        self._dtype: np.dtype[np.generic] | None = None

    def append(self, array: npt.NDArray[np.generic]) -> None:
        if self._dtype is None:
            self._dtype, self._rest = array.dtype, array.shape[1:]
            self._write_header()
        if array.dtype != self._dtype or array.shape[1:] != self._rest:
            raise ValueError(f"parts differ: {array.dtype}{array.shape[1:]}")
        self._handle.write(np.ascontiguousarray(array).data)
        self._rows += len(array)

    def _write_header(self) -> None:
        assert self._dtype is not None
        np.lib.format.write_array_header_1_0(
            self._handle,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self._rows, *self._rest),
            },
        )

    def close(self) -> None:
        if self._dtype is not None:
            start = self._handle.tell()
            self._handle.seek(0)
            self._write_header()
            self._handle.seek(start)
        self._handle.close()


def _open(folder: Path, name: str) -> Any:
    # An empty file cannot be mapped; np.load reads the few bytes instead.
    path = folder / f"{name}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        return np.load(path, allow_pickle=False)
