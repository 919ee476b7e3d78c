"""Encodes chunks of rows in fresh processes and hands the parts back in order.

Decides how work travels: rows lie in ``rows.arrow``, a process gets its chunk numbers by
its standard input, writes each part beside the rows and says so on its standard output. A
process that fails is no error: its chunks are encoded here, where the reason shows itself.
Started as a module, so a caller's own script is not run again. Imports numpy.
"""

from __future__ import annotations

import io
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunefleet.data.rows import load_rows
from tunefleet.data.tokens import Encoded

if TYPE_CHECKING:
    from tunefleet.data.tokenise import Encoder


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows ``start`` to ``stop`` of a split, the ``number``-th piece of the work."""

    number: int
    start: int
    stop: int


def encode_in_processes(
    encoder: Encoder,
    model_path: Path,
    folder: Path,
    chunks: Sequence[Chunk],
    processes: int,
    *,
    fallback: Callable[[Chunk], Encoded],
    progress: Callable[[int], None],
) -> Iterator[Encoded]:
    """The parts of ``chunks`` in order. ``folder`` holds ``rows.arrow`` and takes the parts."""
    finished: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    running = [
        _start(encoder, model_path, folder, chunks[first::processes], finished)
        for first in range(min(processes, len(chunks)))
    ]
    rows_done = chunks[0].start if chunks else 0
    size = {chunk.number: chunk.stop - chunk.start for chunk in chunks}
    ready: set[int] = set()
    alive = len(running)
    try:
        for chunk in chunks:
            while chunk.number not in ready and alive:
                number = finished.get()
                if number is None:
                    alive -= 1
                else:
                    ready.add(number)
                    rows_done += size[number]
                    progress(rows_done)
            if chunk.number in ready:
                part = folder / _name(chunk.number)
                yield _load(part)
                part.unlink()
            else:
                yield fallback(chunk)
                rows_done += size[chunk.number]
                progress(rows_done)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _start(
    encoder: Encoder,
    model_path: Path,
    folder: Path,
    chunks: Sequence[Chunk],
    finished: queue.SimpleQueue[int | None],
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tunefleet.data.encode_processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    work = pickle.dumps((encoder, str(model_path), str(folder), list(chunks)))
    threading.Thread(target=_converse, args=(process, work, finished), daemon=True).start()
    return process


def _converse(
    process: subprocess.Popen[bytes], work: bytes, finished: queue.SimpleQueue[int | None]
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin, process.stdout:
            process.stdin.write(work)
            process.stdin.close()
            for line in process.stdout:
                if line.strip().isdigit():
                    finished.put(int(line))
    except (OSError, ValueError):
        pass  # The process is gone; what it finished has been counted.
    finally:
        finished.put(None)


def _name(number: int) -> str:
    return f"part-{number}.npz"


def _save(path: Path, encoded: Encoded) -> None:
    draft = path.with_suffix(".draft")
    arrays: dict[str, Any] = {
        "offsets": encoded.offsets,
        "ids": encoded.ids,
        "weights": encoded.weights,
        "truncated": np.int64(encoded.truncated),
    }
    arrays.update({f"ragged.{name}": flat for name, flat in encoded.ragged.items()})
    arrays.update({f"fixed.{name}": values for name, values in encoded.fixed.items()})
    with draft.open("wb") as handle:
        np.savez(handle, **arrays)
    os.replace(draft, path)


def _load(path: Path) -> Encoded:
    with np.load(path, allow_pickle=False) as arrays:
        named = {name: arrays[name] for name in arrays.files}
    return Encoded(
        ragged={n.removeprefix("ragged."): a for n, a in named.items() if n[:7] == "ragged."},
        offsets=named["offsets"],
        fixed={n.removeprefix("fixed."): a for n, a in named.items() if n[:6] == "fixed."},
        ids=named["ids"],
        weights=named["weights"],
        truncated=int(named["truncated"]),
    )


def main() -> None:
    """Do the work that stands on standard input."""
    encoder, model_path, folder, chunks = pickle.load(io.BytesIO(sys.stdin.buffer.read()))
    # Libraries print what they like; only chunk numbers may reach the parent.
    say, sys.stdout = sys.stdout, sys.stderr
    tokenizer = encoder.load_tokenizer(Path(model_path))
    for chunk in chunks:
        rows = load_rows(Path(folder), chunk.start, chunk.stop)
        _save(Path(folder) / _name(chunk.number), encoder.encode(rows, tokenizer))
        print(chunk.number, file=say, flush=True)


if __name__ == "__main__":
    main()
