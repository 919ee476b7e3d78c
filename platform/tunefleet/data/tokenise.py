"""One tokenisation pass: rows to a token store, over as many cores as pays.

Decides the chunks, and whether other processes help: the first chunks are encoded here, and
what they cost says whether starting processes (each loads its libraries anew) saves more
than it takes. A fast tokenizer already uses every core from one process; a chat template or
a Python tokenizer does not. The result is the same either way. Imports numpy.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Protocol

from tunefleet.data import rows as rows_files
from tunefleet.data.encode_processes import Chunk, encode_in_processes
from tunefleet.data.tokens import Encoded, Rows, TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK_ROWS = 4096
START_SECONDS = 5.0
"""What a process costs before its first row: imports, mostly."""

_PROBE_SECONDS = 1.0


class Encoder(Protocol):
    """The part of a task that makes units. Rows must be encoded one by one or in any parts
    with the same result.
    """

    def load_tokenizer(self, model_path: Path) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        ...

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Rows to units."""
        ...


@dataclass(frozen=True, slots=True)
class Tokenising:
    """How to tokenise. ``processes``: ``None`` decides by measuring, 0 never starts any."""

    encoder: Encoder
    tokenizer: PreTrainedTokenizerBase
    model_path: Path
    padding: Mapping[str, int]
    processes: int | None = None
    chunk_rows: int = CHUNK_ROWS

    def store(
        self, rows: Rows, folder: Path, progress: Callable[[int], None] | None = None
    ) -> TokenStore:
        """The store of these rows in ``folder`` with ``rows.arrow`` beside it; made once.

        ``progress`` is told how many rows are done.
        """
        if not is_complete(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(mkdtemp(dir=folder.parent, prefix=".rows-"))
            try:
                rows_files.save_rows(draft, rows)
                parts = self._parts(rows, draft, progress or _ignore)
                TokenStore.write_parts(folder, parts, self.padding)
                os.replace(draft / rows_files.FILE, folder / rows_files.FILE)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return TokenStore(folder)

    def _parts(self, rows: Rows, draft: Path, progress: Callable[[int], None]) -> Iterator[Encoded]:
        chunks = [
            Chunk(number, start, min(start + self.chunk_rows, len(rows)))
            for number, start in enumerate(range(0, len(rows), self.chunk_rows))
        ]
        began, cpu = time.monotonic(), time.process_time()
        here = len(chunks) if self.processes is None else 0
        for position, chunk in enumerate(chunks):
            if self.processes is not None and position == here:
                break
            yield self._encode(rows, chunk)
            progress(chunk.stop)
            wall = time.monotonic() - began
            left = wall * (len(rows) - chunk.stop) / chunk.stop
            if wall > _PROBE_SECONDS and pays(wall, time.process_time() - cpu, left, cores()):
                here = position + 1
                break
        else:
            return
        rest, processes = chunks[here:], cores() if self.processes is None else self.processes
        if processes == 0:
            for chunk in rest:
                yield self._encode(rows, chunk)
                progress(chunk.stop)
            return
        yield from encode_in_processes(
            self.encoder,
            self.model_path,
            draft,
            rest,
            processes,
            fallback=lambda chunk: self._encode(rows, chunk),
            progress=progress,
        )

    def _encode(self, rows: Rows, chunk: Chunk) -> Encoded:
        return self.encoder.encode(rows.part(chunk.start, chunk.stop), self.tokenizer)


def is_complete(folder: Path) -> bool:
    """Whether a store and its rows stand in the folder."""
    return (folder / "store.json").exists() and (folder / rows_files.FILE).exists()


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pays(wall: float, cpu: float, left: float, cores: int) -> bool:
    """Whether ``left`` more seconds here are worth starting a process per core.

    ``cpu / wall`` cores are busy already; processes would use all of them, after their start.
    """
    busy = max(1.0, cpu / wall)
    saved = left * (1 - min(1.0, busy / cores))
    return saved > 2 * START_SECONDS


def _ignore(done: int) -> None:
    pass
