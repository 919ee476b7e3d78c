"""Turns what a store or the operating system says into errors a user can act on.

Decides which remedy belongs to which fault (full disk, read-only folder, a file where a
folder is needed, credentials, network). Imports ``api`` and the standard library alone.
"""

from __future__ import annotations

import errno
import re

from tunefleet.api.errors import StorageError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_OTHER = "look whether the store can be reached, then run the same command again to go on"
_REMEDIES: tuple[tuple[frozenset[int], frozenset[str], str], ...] = (
    (
        frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG}),
        frozenset(),
        "the disk (or its quota) is full: free some space, lower checkpoints.keep, or set "
        "checkpoints.uri to a larger disk; what was committed is kept, run again to go on",
    ),
    (
        frozenset({errno.EROFS, errno.EACCES, errno.EPERM}),
        frozenset({"PermissionDeniedError"}),
        "you may not write (or read) here: set checkpoints.uri to another place, or mend the "
        "rights of the folder or bucket",
    ),
    (
        frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}),
        frozenset(),
        "this file system lacks hard links, which claims are made with: set checkpoints.uri "
        "to a folder on a local disk",
    ),
    (
        frozenset({errno.ENOTDIR, errno.EEXIST, errno.EISDIR}),
        frozenset(),
        "a part of this path is a file where a folder is needed, or the other way round",
    ),
    (
        frozenset({errno.ENOENT}),
        frozenset({"FileNotFoundError"}),
        "look whether the run's folder was moved or deleted",
    ),
    (
        frozenset(),
        frozenset({"UnauthenticatedError"}),
        "the store does not accept the credentials of the environment",
    ),
)


class MissingError(StorageError):
    """There is no object under this key."""


class FencedError(StorageError):
    """A newer attempt or start has taken the run over; this writer must stop."""


def translate(error: Exception, action: str, place: str) -> StorageError:
    """The error to raise for ``error``, met while doing ``action`` at ``place``."""
    if isinstance(error, StorageError):
        return error
    text = str(error).split("\n\nDebug source", maxsplit=1)[0].strip()
    number = error.errno if isinstance(error, OSError) else None
    found = _OS_ERROR.search(text)
    if number is None and found is not None:
        number = int(found.group(1))
    if number == errno.EPERM and action == "create":  # what FAT says to a hard link
        number = errno.EOPNOTSUPP
    kind = MissingError if isinstance(error, FileNotFoundError) else StorageError
    return kind(f"cannot {action} {place}: {text}", remedy=_remedy(type(error).__name__, number))


def _remedy(kind: str, number: int | None) -> str:
    for numbers, kinds, remedy in _REMEDIES:
        if number in numbers or kind in kinds:
            return remedy
    return _OTHER
