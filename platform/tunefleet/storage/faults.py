"""Turns what a store or the operating system says into errors a user can act on.

Decides which remedy belongs to which fault (full disk, read-only folder, a file where a
folder is needed, credentials, network). Imports ``api`` and the standard library alone.
"""

from __future__ import annotations

import errno
import re

from tunefleet.api.errors import StorageError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
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

_AWAY = (
    "the store cannot be reached: look at the network and the endpoint (AWS_ENDPOINT_URL); "
    "what was committed is kept, run the same command again to go on"
)

# What a remote store calls its reason, or what stands in obstore's words of it.
_REASONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        _NO_BUCKET,
        "there is no such bucket: make it first, or mend its name (and the endpoint, "
        "AWS_ENDPOINT_URL)",
    ),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidToken"),
        "the store does not know these credentials: look at AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and AWS_PROFILE (`tunefleet doctor` shows which are used)",
    ),
    (
        ("ExpiredToken", "TokenRefreshRequired", "RequestExpired"),
        "the credentials have expired: log in again, or renew AWS_SESSION_TOKEN",
    ),
    (
        ("RequestTimeTooSkewed",),
        "this machine's clock is wrong: set it, then run again",
    ),
    (
        ("169.254.169.254", "169.254.170.2", "metadata.google.internal"),
        "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
        "AWS_PROFILE (GOOGLE_APPLICATION_CREDENTIALS for gs://, AZURE_STORAGE_ACCOUNT_KEY for "
        "az://)",
    ),
    (
        ("Account must be specified",),
        "set AZURE_STORAGE_ACCOUNT_NAME (and AZURE_STORAGE_ACCOUNT_KEY or an identity)",
    ),
    (
        ("incorrectly configured region", "AuthorizationHeaderMalformed", "PermanentRedirect"),
        "the bucket lies in another region: set AWS_REGION",
    ),
    (
        ("ETag Header missing", "DeleteObjects response", "multipart response"),
        "what answers there is no object store: look at the endpoint (AWS_ENDPOINT_URL)",
    ),
    (
        ("builder error",),
        "the endpoint's address cannot be used: write https://host:port, or http:// for one "
        "without encryption",
    ),
    (("HTTP error",), _AWAY),
)


class MissingError(StorageError):
    """There is no object under this key."""


class AwayError(StorageError):
    """The store cannot be reached."""


class FencedError(StorageError):
    """A newer attempt or start has taken the run over; this writer must stop."""


def missing_bucket(error: Exception) -> bool:
    """Whether the whole bucket is missing, not one object."""
    return any(word in str(error) for word in _NO_BUCKET)


def translate(error: Exception, action: str, place: str) -> StorageError:
    """The error to raise for ``error``, met while doing ``action`` at ``place``."""
    if isinstance(error, StorageError):
        return error
    said = str(error).split("\n\nDebug source", maxsplit=1)[0].strip()
    text = _plain(said)
    number = error.errno if isinstance(error, OSError) else None
    found = _OS_ERROR.search(text)
    if number is None and found is not None:
        number = int(found.group(1))
    if number == errno.EPERM and action == "create":  # what FAT says to a hard link
        number = errno.EOPNOTSUPP
    kind: type[StorageError] = StorageError
    if isinstance(error, FileNotFoundError) and not missing_bucket(error):
        kind = MissingError
    remedy = _reason(said) or _remedy(type(error).__name__, number)
    if remedy == _AWAY:
        kind = AwayError
    return kind(f"cannot {action} {place}: {text}", remedy=remedy)


def _plain(text: str) -> str:
    """What a store said, in one line where it said it in XML."""
    code, message = _CODE.search(text), _MESSAGE.search(text)
    if code is None:
        return text
    return f"{code[1]} ({message[1].strip()})" if message and message[1].strip() else code[1]


def _reason(text: str) -> str:
    return next((remedy for words, remedy in _REASONS if any(w in text for w in words)), "")


def _remedy(kind: str, number: int | None) -> str:
    for numbers, kinds, remedy in _REMEDIES:
        if number in numbers or kind in kinds:
            return remedy
    return _OTHER
