"""A bare tokenising loop over the same cores: encode in batches, keep the ids.

    python -m benchmarks.peers.tokenise MODEL TEXTS.csv

The fastest thing one would write by hand: the Rust tokenizer's own batch call, which uses every
core, and flat int32 arrays. Prints its seconds from the first text to the last id kept;
reading the file is not counted. Imports nothing of tunefleet.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

CHUNK = 4096
MAX_LENGTH = 128


def texts_of(path: Path) -> list[str]:
    """The texts of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def main() -> None:
    """Tokenise the file and say how long it took."""
    tokenizer = Tokenizer.from_file(str(Path(sys.argv[1]) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    texts = texts_of(Path(sys.argv[2]))
    tokenizer.encode_batch_fast(texts[:8])
    began = time.perf_counter()
    parts, lengths = [], []
    for start in range(0, len(texts), CHUNK):
        rows = [item.ids for item in tokenizer.encode_batch_fast(texts[start : start + CHUNK])]
        lengths.append(np.fromiter(map(len, rows), np.int32, len(rows)))
        parts.append(np.fromiter((i for ids in rows for i in ids), np.int32))
    ids = np.concatenate(parts)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "tokens": len(ids), "rows": len(texts)}))


if __name__ == "__main__":
    main()
