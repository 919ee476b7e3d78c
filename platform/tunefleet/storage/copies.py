"""Local copies of remote objects: fetched once, known by their version, checked when reused.

Decides where a copy lies (``<cache>/remote/<digest of uri, version and size>/``), when it is
still good (its recorded sha256, read again only when its size or time moved), and that a store
which cannot be reached is answered from what was fetched before, and said so. A changed object
has another version, so it is fetched anew. Everything here can be deleted at any time. Imports
``api`` and its siblings below it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tunefleet.api.errors import StorageError
from tunefleet.storage.faults import AwayError
from tunefleet.storage.keys import checked, split_uri
from tunefleet.storage.listing import Entry
from tunefleet.storage.store import Store, open_store

Progress = Callable[[str, int, int], None]
_MAGIC = frozenset("*?[")
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Copy:
    """An object's copy on this machine. ``uri`` is where it came from."""

    path: Path
    uri: str


class Copies:
    """Copies in one cache folder. ``notes`` says what could not be looked up anew."""

    def __init__(self, cache: Path, progress: Progress | None = None) -> None:
        self._root = cache / "remote"
        self._progress = progress or (lambda stage, done, total: None)
        self.notes: list[str] = []

    def files(self, uri: str) -> list[Copy]:
        """Copies of the objects that a URI or a pattern (``*``, ``?``, ``[…]``, ``**``) names.

        Sorted by key; empty when there is none. Raises ``StorageError``.
        """
        root, key = split_uri(uri)
        store = open_store(root, Path("/"))
        entries = self._looked_up(uri, lambda: _matching(store, key))
        sets = [[(entry.key.rsplit("/", 1)[-1], entry)] for entry in entries]
        folders = self._fetched(store, [(f"{root}/{of[0][1].key}", of) for of in sets])
        return [
            Copy(folder / of[0][0], f"{root}/{of[0][1].key}")
            for folder, of in zip(folders, sets, strict=True)
        ]

    def folder(self, uri: str, skip: Sequence[str] = ()) -> Path:
        """A copy of everything below a folder, but for file names that match ``skip``.

        Raises ``StorageError``, also when nothing is there.
        """
        root, prefix = split_uri(uri)
        store = open_store(root, Path("/"))
        entries = self._looked_up(uri, lambda: store.entries(checked(prefix)))
        wanted = [
            (checked(entry.key).removeprefix(prefix).lstrip("/"), entry)
            for entry in entries
            if not any(fnmatch.fnmatchcase(entry.key.rsplit("/", 1)[-1], name) for name in skip)
        ]
        if not wanted:
            raise StorageError(f"there is nothing in {uri}", remedy="look whether it was moved")
        return self._fetched(store, [(f"{root}/{prefix}", wanted)])[0]

    # -- inside ------------------------------------------------------------------------

    def _looked_up(self, uri: str, look: Callable[[], list[Entry]]) -> list[Entry]:
        """What is there now; what was there the last time when the store cannot be reached."""
        known = self._root / "listings" / f"{_digest([uri])}.json"
        try:
            found = look()
        except AwayError as error:
            try:
                entries = [Entry(*entry) for entry in json.loads(known.read_text())]
            except (OSError, ValueError, TypeError):
                raise error from None
            self.notes.append(
                f"{uri} cannot be reached: the copy that was fetched before is used, and it was "
                "not looked whether it has changed since"
            )
            return entries
        _write_json(known, found)
        return found

    def _fetched(self, store: Store, sets: list[tuple[str, list[tuple[str, Entry]]]]) -> list[Path]:
        """The folder of each set of objects, with whole files in it."""
        folders = [self._root / _digest([uri, *sorted(of)]) / "files" for uri, of in sets]
        todo = [
            (folder, name, entry)
            for folder, (_, of) in zip(folders, sets, strict=True)
            for name, entry in of
            if not _is_whole(folder, name, entry)
        ]
        total, done, lock = sum(entry.size for _, _, entry in todo), 0, Lock()

        def fetch(folder: Path, name: str, entry: Entry) -> None:
            nonlocal done
            path = folder / name
            size, sha = store.fetch(entry.key, path)
            if size != entry.size:
                raise StorageError(
                    f"{entry.key} in {store.uri} changed while it was fetched",
                    remedy="run again when nobody writes to it",
                )
            _write_json(_record(folder, name), [sha, size, path.stat().st_mtime_ns])
            with lock:
                done += entry.size
                self._tell(done, total)

        if todo:
            self._tell(0, total)
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
                for future in [pool.submit(fetch, *each) for each in todo]:
                    future.result()
        return folders

    def _tell(self, done: int, total: int) -> None:
        self._progress("fetching (MiB)", done >> 20, max(1, total >> 20))

    def forget(self, folder: Path) -> None:
        """Delete a folder's copy, so that it is fetched anew the next time."""
        if self._root in folder.parents:
            shutil.rmtree(folder.parent, ignore_errors=True)


def _matching(store: Store, pattern: str) -> list[Entry]:
    """The objects a pattern names, sorted by key."""
    parts = pattern.split("/")
    if not _MAGIC & set(pattern):
        entry = store.entry(checked(pattern))
        return [] if entry is None else [entry]
    fixed = next(i for i, part in enumerate(parts) if _MAGIC & set(part))
    below = "/".join(parts[:fixed])
    return [entry for entry in store.entries(below) if _matches(entry.key.split("/"), parts)]


def _matches(key: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a key fits, name by name; ``**`` stands for any number of folders."""
    if not pattern:
        return not key
    if pattern[0] == "**":
        rest = pattern[1:] or ["*"]
        return any(_matches(key[skipped:], rest) for skipped in range(len(key)))
    return (
        bool(key)
        and fnmatch.fnmatchcase(key[0], pattern[0])
        and (pattern[0].startswith(".") or not key[0].startswith("."))
        and _matches(key[1:], pattern[1:])
    )


def _is_whole(folder: Path, name: str, entry: Entry) -> bool:
    """Whether a copy is as it was fetched; read again only when its size or time moved."""
    path = folder / name
    try:
        sha, size, moment = json.loads(_record(folder, name).read_text())
        status = path.stat()
    except (OSError, ValueError):
        return False
    if size != entry.size or status.st_size != size:
        return False
    return bool(status.st_mtime_ns == moment) or _sha256(path) == sha


def _record(folder: Path, name: str) -> Path:
    return folder.with_name("records") / f"{name}.json"


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{id(value):x}")
    part.write_text(json.dumps(value))
    part.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
