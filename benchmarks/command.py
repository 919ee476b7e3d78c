"""How long a person waits for the command line itself.

Runs ``tunefleet --help`` in fresh processes, beside an interpreter that only starts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.scale import Scale
from benchmarks.table import Row

TRIES = 11
LIMIT_SECONDS = 0.3


def measure(scale: Scale) -> Iterator[Row]:
    """One row, in seconds of wall time."""
    tunefleet = str(Path(sys.executable).with_name("tunefleet"))
    bare = [sys.executable, "-c", "import click"]
    _seconds([tunefleet, "--help"])  # the first start also writes byte code
    pairs = [(_seconds([tunefleet, "--help"]), _seconds(bare)) for _ in range(TRIES)]
    yield Row(
        "tunefleet --help",
        "s",
        [ours for ours, _ in pairs],
        [theirs for _, theirs in pairs],
        peer="python -c 'import click'",
        better="lower",
        limit=LIMIT_SECONDS,
    )


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(list(command), check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began
