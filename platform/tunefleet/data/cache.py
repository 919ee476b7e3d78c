"""Where prepared data is kept between runs, and how its keys are made.

Decides the cache's folder (``$TUNEFLEET_CACHE``, else ``$XDG_CACHE_HOME/tunefleet``, else
``~/.cache/tunefleet``) and what makes two preparations the same: values, contents of files,
code. Everything in the cache can be deleted at any time. Imports the standard library alone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def cache_root() -> Path:
    """The cache's folder (it may not exist yet)."""
    named = os.environ.get("TUNEFLEET_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "tunefleet"


def digest_values(*values: object) -> str:
    """A digest of JSON values, in hexadecimal."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_code(folders: Iterable[Path]) -> str:
    """A digest of the Python files that stand in these folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            digest.update(f"{file.name}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """Installed versions, found without importing anything ("" where not installed)."""
    found = []
    for name in packages:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append((name, ""))
    return tuple(found)


def stamp(path: Path) -> list[object]:
    """What tells cheaply that a file has not changed: its path, size and time."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def digest_file(path: Path, cache_folder: Path | None = None) -> str:
    """sha256 of a file. With a cache folder it is read again only when its stamp changed."""
    if cache_folder is None:
        return _read_digest(path)
    kept = cache_folder / "digests" / digest_values(stamp(path))
    try:
        return kept.read_text()
    except OSError:
        found = _read_digest(path)
        write_text(kept, found)
        return found


def _read_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
