"""What is sent to a store: in parts of which size, hashed on its way.

Decides the size of an upload's parts; obstore sends several at once. Imports the standard
library alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

CHUNK = 8 << 20
_MOST_PARTS = 9_000  # of one multipart upload; S3 takes 10,000


def part_size(size: int) -> int:
    """The size of one part of an upload, in bytes."""
    return max(CHUNK, -(-size // _MOST_PARTS))


class HashedFile:
    """A file's chunks, hashed as they are handed out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sha = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                self._sha.update(chunk)
                self.size += len(chunk)
                yield chunk

    def hexdigest(self) -> str:
        """The sha256 of what was handed out so far."""
        return self._sha.hexdigest()


@contextlib.contextmanager
def hashing(view: memoryview) -> Iterator[Future[str]]:
    """The sha256 of a view, worked out beside what is done in the block."""
    if view.nbytes <= CHUNK:
        done: Future[str] = Future()
        done.set_result(hashlib.sha256(view).hexdigest())
        yield done
        return
    with ThreadPoolExecutor(1, thread_name_prefix="sha256") as pool:
        yield pool.submit(lambda: hashlib.sha256(view).hexdigest())
