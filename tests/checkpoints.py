"""What a run holds, looked at the short way."""

from __future__ import annotations

import hashlib

from tunefleet.storage.chain import find_head
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.manifest import Manifest


def head(run: RunFolder) -> Manifest | None:
    """The newest checkpoint of the history that is whole, read back to the last byte."""
    return find_head(run).head


def read_file(run: RunFolder, manifest: Manifest, name: str) -> bytes:
    """A file's bytes, which must be those of the manifest."""
    body = run.store.get(run.key("checkpoints", manifest.name, name))
    entry = manifest.files[name]
    assert (len(body), hashlib.sha256(body).hexdigest()) == (entry.size, entry.sha256)
    return body
