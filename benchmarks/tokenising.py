"""Tokenising many short rows beside a bare loop over the same cores.

Both start from texts in memory; ours ends with a verified, memory-mapped store on disk, the
loop with an array. Both use every core of the machine.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scale import Scale
from benchmarks.table import Row
from benchmarks.watch import watch
from benchmarks.workloads import MODEL, REVIEWS

GOAL = 0.8


def measure(scale: Scale) -> Iterator[Row]:
    """One row, in rows per second."""
    folder = scale.scratch / "tokenising"
    folder.mkdir(parents=True)
    texts = _texts(folder / "texts.csv", scale.rows)
    speed: dict[str, list[float]] = {"ours": [], "theirs": []}
    tokens: set[int] = set()
    for pair in range(scale.pairs):
        commands = {
            "ours": ["benchmarks.tokenise_ours", str(MODEL), str(texts), str(folder / f"{pair}")],
            "theirs": ["benchmarks.peers.tokenise", str(MODEL), str(texts)],
        }
        for side in commands if pair % 2 == 0 else reversed(commands):
            watched = watch(
                [sys.executable, "-m", *commands[side]],
                scratch=folder / f"{side}-{pair}",
                environment={"TOKENIZERS_PARALLELISM": "true"},
            )
            said = json.loads(watched.stdout.splitlines()[-1])
            speed[side].append(said["rows"] / said["seconds"])
            tokens.add(said["tokens"])
    assert len(tokens) == 1, f"the two sides made different tokens: {tokens}"
    yield Row(
        f"tokenising {scale.rows:,} reviews",
        "rows/s",
        speed["ours"],
        speed["theirs"],
        peer="bare loop, same cores",
        goal=GOAL,
    )


def _texts(path: Path, rows: int) -> Path:
    """The reviews over and over, each time a little different, so that no cache helps."""
    with REVIEWS.open(encoding="utf-8", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        for number in range(rows):
            writer.writerow([f"{number} {reviews[number % len(reviews)]}"])
    return path
