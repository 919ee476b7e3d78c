"""Going on with a run whose folder holds 10,000 checkpoints' worth of objects.

Half of them are a history that nobody collected, half are debris of killed writers. What is
measured is what a start waits for: finding the head of the history, and collecting the debris.
There is no peer; the rows are for orientation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.scale import Scale
from benchmarks.table import Row
from tests.testbed.s3 import s3_server
from tunefleet.storage.checkpoints import CheckpointWriter, Manifest, collect, find_head, retain
from tunefleet.storage.manifest import checkpoint_name
from tunefleet.storage.run import RunStore, Writer
from tunefleet.storage.store import Store, open_store

_BODY = {"weights.safetensors": b"w" * 64, "moments.safetensors": b"m" * 128, "state.json": b"{}"}


def measure(scale: Scale) -> Iterator[Row]:
    """Three rows on a disk and three on a real S3 server, in seconds."""
    yield from _rows("disk", open_store(str(scale.scratch / "history"), Path.cwd()), scale)
    with s3_server() as s3:
        os.environ.update(s3.environment())
        yield from _rows("S3", open_store(s3.uri("history"), Path.cwd()), scale)


def _rows(name: str, store: Store, scale: Scale) -> Iterator[Row]:
    run = RunStore.create(store, "default", "benchmark")
    _fill(run, scale.checkpoints)
    claim = run.claim_attempt(Writer.here())
    what = f"{scale.checkpoints:,} checkpoints on {name}"
    began = time.perf_counter()
    run.claim_start(claim.attempt, 1)
    yield Row(f"claim and head: {what}", "s", [time.perf_counter() - began])
    began = time.perf_counter()
    gone = collect(run)
    seconds = time.perf_counter() - began
    assert len(gone) == scale.checkpoints // 2, "every piece of debris is collected"
    yield Row(f"collect half of {what}", "s", [seconds])
    began = time.perf_counter()
    gone = retain(run, keep_last=1, keep_best=1, higher_is_better=True)
    seconds = time.perf_counter() - began
    assert len(gone) >= scale.checkpoints // 2 - 2, "all but the newest and the best go"
    assert find_head(run).head is not None
    yield Row(f"retain one of half of {what}", "s", [seconds])


def _fill(run: RunStore, count: int) -> None:
    """One real commit, its copies under later names, and as many folders without a manifest."""
    claim = run.claim_attempt(Writer.here())
    start = run.claim_start(claim.attempt, 1)
    writer = CheckpointWriter(run, start)
    first = writer.commit(1, _BODY, metric=0.5, chain="", digests={})
    parents = [first]
    for sequence in range(2, count // 2 + 1):
        name = checkpoint_name(sequence, start.attempt, start.start, sequence, "0" * 6)
        changes = {
            "name": name,
            "step": sequence,
            "sequence": sequence,
            "parent": parents[-1].key,
            "parent_step": parents[-1].step,
        }
        parents.append(first.model_copy(update=changes).sealed())

    def put(manifest: Manifest) -> None:
        for file, body in _BODY.items():
            run.store.put(run.key("checkpoints", manifest.name, file), body)
        run.store.put(run.key(manifest.key), manifest.to_json().encode())

    def litter(sequence: int) -> None:
        name = checkpoint_name(sequence, start.attempt, start.start, sequence, "f" * 6)
        for file, body in list(_BODY.items())[:2]:
            run.store.put(run.key("checkpoints", name, file), body)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, parents[1:]))
        list(pool.map(litter, range(1, count // 2 + 1)))
