"""Can a store keep a run? Asked before anything is spent.

Decides what a store must do: keep what was written, refuse a second conditional write. Imports
``api``, ``plan.facts`` and its siblings below it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time

from tunefleet.api.errors import StorageError
from tunefleet.plan.facts import StorageFacts
from tunefleet.storage.store import Store

_BYTES = 8 << 20


def probe(store: Store) -> StorageFacts:
    """Write, read back, see a second conditional write refused, measure the speed, delete.

    Raises StorageError for a store that could not keep two writers apart.
    """
    key = f".tunefleet-probe-{secrets.token_hex(8)}"
    body = os.urandom(1 << 20) * (_BYTES >> 20)
    made = store.local_path("x")
    made = made.parent if made and not made.parent.exists() else None
    written = False
    try:
        first = written = store.create(key, b"1")
        if not first or store.create(key, b"2"):
            raise StorageError(
                f"{store.uri} does not refuse a second conditional write",
                remedy="claims need that: use a store with conditional PUT or a local folder",
            )
        if store.get(key) != b"1":
            raise StorageError(
                f"{store.uri} does not give back what was written",
                remedy="look at the endpoint: is it an object store?",
            )
        began = time.perf_counter()
        store.put(f"{key}-speed", body)
        store.flush([f"{key}-speed"])
        seconds = time.perf_counter() - began
    finally:
        if written:
            with contextlib.suppress(StorageError):
                store.delete([key, f"{key}-speed"])
        if made:
            with contextlib.suppress(OSError):
                made.rmdir()
    speed = len(body) / max(seconds, 1e-9)
    return StorageFacts(uri=store.uri, conditional_put=True, write_bytes_per_second=speed)
