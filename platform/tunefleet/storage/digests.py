"""Size and sha256 of a file on this machine, read for that or for something else as well.

Decides how a large file is read: what is there is hashed while the disk reads on. Imports its
siblings below it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunefleet.storage.faults import translate

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE = 4 << 20
_REST = 256 << 10
_BEHIND = 16


def digest_of_file(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 (hex) of a file; raises ``OSError``."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        sha = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), sha


class HashedReader(io.RawIOBase):
    """A file that is hashed by another thread as it is read: once for both.

    A buffer that was read into has to stay as it is until :meth:`digest` has returned. Raises
    ``StorageError``.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        with self._told():
            self._file = path.open("rb", buffering=0)
        self._sha = hashlib.sha256()
        self._size = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        # At most so many pieces behind: each may be all that is left of its buffer.
        self._hashing: deque[Future[None]] = deque()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer or, where it is large, its beginning; how many bytes that were."""
        part = memoryview(buffer).cast("B")[:_PIECE]
        with self._told():
            count = self._file.readinto(part) or 0
        if count:
            self._size += count
            self._hashing.append(self._pool.submit(self._sha.update, part[:count]))
            if len(self._hashing) > _BEHIND:
                self._hashing.popleft().result()
        return count

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none are left where there are none."""
        # (The library's own one shortens its buffer, which a thread may still be hashing.)
        if size < 0:
            return self.readall()
        piece = memoryview(bytearray(size))
        return bytes(piece[: self.readinto(piece)])

    def readall(self) -> bytes:
        """All that is left."""
        return b"".join(iter(lambda: self.read(_REST), b""))

    def digest(self) -> tuple[int, str]:
        """Size in bytes and sha256 (hex) of the file; what was not read yet is read now."""
        while self.readinto(bytearray(_REST)):
            pass
        while self._hashing:
            self._hashing.popleft().result()
        return self._size, self._sha.hexdigest()

    def close(self) -> None:
        """Let go of the file."""
        if hasattr(self, "_pool"):  # else it could not be opened
            self._pool.shutdown(cancel_futures=True)
            self._file.close()
        super().close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translate(error, "read", self.name) from None
