"""The product's tokenisation pass over the texts of a CSV file, timed by itself.

    python -m benchmarks.tokenise_ours MODEL TEXTS.csv STORE

From rows in memory to the finished store on disk; reading the file is not counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.peers.tokenise import MAX_LENGTH, texts_of
from tunefleet.api.tasks import declaration_of
from tunefleet.data.tokenise import Tokenising
from tunefleet.data.tokens import Rows
from tunefleet.tasks import task_of
from tunefleet.tasks.contract import TaskContext


def main() -> None:
    """Tokenise the file and say how long it took."""
    name = "text-classification"
    model, source, store = (Path(argument) for argument in sys.argv[1:4])
    task = task_of(name, TaskContext(declaration_of(name).options(), ("no", "yes"), MAX_LENGTH))
    texts = texts_of(source)
    labels = [number % 2 for number in range(len(texts))]
    rows = Rows({"text": texts, "label": labels}, np.arange(len(texts), dtype=np.int64))
    tokenizer = task.load_tokenizer(model)
    tokenising = Tokenising(task, tokenizer, model, {"input_ids": 0})
    # The loop beside it is warm too when its clock starts: libraries are loaded once, and a
    # million rows are what is asked about.
    tokenising.store(rows.part(0, 8), store.with_name(f"{store.name}-warm"))
    began = time.perf_counter()
    made = tokenising.store(rows, store)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "tokens": int(made.lengths.sum()), "rows": len(made)}))


if __name__ == "__main__":
    main()
