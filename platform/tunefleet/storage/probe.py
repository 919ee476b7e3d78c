"""Can a store keep a run? Asked before anything is spent.

Decides what a store must do: keep what was written, refuse a second conditional write, delete.
Imports ``api``, ``plan.facts`` and its siblings below it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from dataclasses import replace

from tunefleet.api.errors import StorageError
from tunefleet.plan.facts import StorageFacts
from tunefleet.storage.faults import AwayError
from tunefleet.storage.store import Store
from tunefleet.storage.writer import Writer

_BYTES = 8 << 20
_PROBES = ".tunefleet-probe"
_DELETING = (
    "older checkpoints are deleted while a run goes on: grant s3:DeleteObject (on gs:// "
    "storage.objects.delete, on az:// the deleting of blobs) below checkpoints.uri as well"
)


def probe(store: Store) -> StorageFacts:
    """Write, read back, see a second conditional write refused, measure the speed, delete.

    What a killed process of this machine left of its own probe goes first. Raises
    StorageError for a store that could not keep two writers apart, or that deletes nothing.
    """
    root = store.local_path(_PROBES)
    made = root is not None and not root.parent.exists()
    _collect(store)
    place = f"{_PROBES}/{_named(Writer.here())}"
    key, speed = f"{place}/once", f"{place}/speed"
    body = os.urandom(1 << 20) * (_BYTES >> 20)
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
        store.put(speed, body)
        store.flush([speed])
        seconds = time.perf_counter() - began
        _delete(store, [key, speed])
    finally:
        if written:
            with contextlib.suppress(StorageError):
                store.delete([key, speed])
        if root is not None:
            with contextlib.suppress(StorageError, OSError):
                store.delete_folder(place)
                root.rmdir()
                if made:
                    root.parent.rmdir()
    rate = len(body) / max(seconds, 1e-9)
    return StorageFacts(uri=store.uri, conditional_put=True, write_bytes_per_second=rate)


def _delete(store: Store, keys: list[str]) -> None:
    """Delete objects, or refuse the store: a run would die of it hours later."""
    try:
        store.delete(keys)
        left = [key for key in keys if store.exists(key)]
    except AwayError:
        raise
    except StorageError as error:
        said = error.message
    else:
        if not left:
            return
        said = f"{left[0]} is still there after it was deleted"
    raise StorageError(f"{store.uri} does not let objects be deleted: {said}", remedy=_DELETING)


def _collect(store: Store) -> None:
    """Delete the probes of processes of this machine that are over."""
    here = Writer.here()
    with contextlib.suppress(StorageError):
        for name in store.folders(_PROBES):
            machine, pid, started, _ = (*name.split("_"), *[""] * 4)[:4]
            if machine != _machine(here) or not pid.isdigit():
                continue
            with contextlib.suppress(ValueError):
                if not replace(here, pid=int(pid), started=float(started)).alive():
                    store.delete_folder(f"{_PROBES}/{name}")


def _named(writer: Writer) -> str:
    """A folder's name that says whose probe it is, before anything is in it."""
    return f"{_machine(writer)}_{writer.pid}_{writer.started}_{secrets.token_hex(4)}"


def _machine(writer: Writer) -> str:
    return hashlib.sha256(f"{writer.host} {writer.boot}".encode()).hexdigest()[:12]
