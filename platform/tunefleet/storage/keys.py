"""Keys of a store and the local folder of a ``file://`` URI.

Decides which keys are allowed: none that could leave its store, none that a store would
read differently. Imports ``api`` and the standard library alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tunefleet.api.errors import StorageError

CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_STAGED = re.compile(r"#\d+$")


def checked(key: str) -> str:
    """The key itself; StorageError for one that could leave its store or be misread."""
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or CONTROL.search(key):
        raise StorageError(
            f"{key!r} is no key of a store", remedy="a key is names joined by single slashes"
        )
    if is_draft(parts[-1]):
        raise StorageError(
            f"{key!r} is no key of a store: names that end in '#' and digits are those of "
            "half-written files",
            remedy="rename the file",
        )
    return key


def is_draft(name: str) -> bool:
    """Whether a file's name is that of a half-written one (``<name>#<n>``)."""
    return _STAGED.search(name) is not None


def local_root(uri: str) -> Path | None:
    """The folder of a ``file://`` URI; None for any other one."""
    return root_path(uri) if uri.startswith("file://") else None


def root_path(uri: str) -> Path:
    """The absolute folder a ``file://`` URI names."""
    parts = urlsplit(uri)
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise StorageError(
            f"{uri!r} is no local folder", remedy="write it with three slashes: file:///path"
        )
    return Path(os.path.abspath(unquote(parts.path)))


def check_root(uri: str) -> None:
    """Raise StorageError where the folder of a ``file://`` URI can never be made."""
    root = local_root(uri)
    if root is None:
        return
    nearest = root
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise StorageError(
            f"{nearest} is a file; {root} cannot be a folder of runs",
            remedy="set checkpoints.uri to a folder",
        )


def split_uri(uri: str) -> tuple[str, str]:
    """``scheme://bucket`` and the key (or pattern) below it, character for character."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key.strip("/")
