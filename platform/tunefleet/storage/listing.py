"""What lies in a store: objects with their size and version.

Decides what tells one version of an object from another (its ETag) and that an object which
vanishes while it is being listed is no error. Imports obstore and ``storage.faults``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import obstore

from tunefleet.storage.faults import missing_bucket

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore


class Entry(NamedTuple):
    """An object: its key, its size in bytes, and its version where the store tells it."""

    key: str
    size: int
    etag: str | None

    @staticmethod
    def of(found: ObjectMeta) -> Entry:
        """From what obstore tells."""
        return Entry(str(found["path"]), int(found["size"]), found["e_tag"])


def listed(store: ObjectStore, where: str | None) -> list[Entry]:
    """Everything below a folder, sorted by key."""
    for last in (False, True):
        try:
            return sorted(
                Entry.of(entry)
                for batch in obstore.list(store, where, chunk_size=1000)
                for entry in batch
            )
        except FileNotFoundError as error:
            # An object vanished while it was being listed.
            if last or missing_bucket(error):
                raise
    return []
