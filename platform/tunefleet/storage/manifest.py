"""A checkpoint's manifest: its shape, its name, and whether its files are whole.

Decides when a checkpoint counts: its manifest reads, its seal fits, and every file has the
size and sha256 the manifest states. Imports ``api`` and its siblings below it.
"""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tunefleet.api.base import Document
from tunefleet.api.errors import StorageError
from tunefleet.storage.digests import digest_of_file
from tunefleet.storage.faults import MissingError
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.records import refuse_newer

CHECKPOINTS = "checkpoints"
MANIFEST = "MANIFEST.json"
_FILES_AT_ONCE = 4
_NAME = re.compile(r"(\d{8,16})-(\d{1,9})\.(\d{1,9})\.(\d{1,9})-([0-9a-f]{6})")


class FileEntry(Document):
    """What a file of a checkpoint must be."""

    size: int
    sha256: str


class Manifest(Document):
    """What makes a folder of files a checkpoint; written last, by conditional create.

    ``parent`` is the parent manifest's key, relative to the run's folder, and
    ``parent_step`` its step, kept for when retention has deleted the parent. ``sequence``
    counts the commits of one start. ``seal`` is the sha256 of all the rest, so that a
    flipped bit in the manifest itself is found too.
    """

    version: Literal[1] = 1
    name: str
    step: int
    attempt: int
    start: int
    sequence: int
    parent: str | None
    parent_step: int | None
    files: dict[str, FileEntry]
    metric: float | None
    chain: str
    digests: dict[str, str]
    created: str
    seal: str = ""

    @property
    def key(self) -> str:
        """The manifest's key, relative to the run's folder."""
        return manifest_key(self.name)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(entry.size for entry in self.files.values())

    def sealed(self) -> Manifest:
        """The same manifest with its seal."""
        found: dict[str, object] = json.loads(self.to_json())
        return self.model_copy(update={"seal": _seal(found)})


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """What a checkpoint's folder name says; ordered by writer and commit, never by time."""

    attempt: int
    start: int
    sequence: int
    step: int
    name: str

    @property
    def writer(self) -> tuple[int, int]:
        """(attempt, start) of the writer."""
        return (self.attempt, self.start)

    @property
    def place(self) -> tuple[int, int, int]:
        """(attempt, start, sequence), the order of commits."""
        return (self.attempt, self.start, self.sequence)


class DamagedError(StorageError):
    """A manifest is there and cannot be used; the message says why."""


def checkpoint_name(step: int, attempt: int, start: int, sequence: int, nonce: str) -> str:
    """A folder's name, such as ``00000120-1.1.2-ab12cd``."""
    return f"{step:08d}-{attempt}.{start}.{sequence}-{nonce}"


def manifest_key(name: str) -> str:
    """Key of a checkpoint's manifest, relative to the run's folder."""
    return f"{CHECKPOINTS}/{name}/{MANIFEST}"


def mark_of(name: str) -> Mark | None:
    """What a folder's name says; None when it is none of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    step, attempt, start, sequence = (int(part) for part in match.groups()[:4])
    return Mark(attempt, start, sequence, step, name)


def mark_of_key(key: str) -> Mark | None:
    """The mark of a manifest's key."""
    match = re.fullmatch(rf"{CHECKPOINTS}/([^/]+)/{re.escape(MANIFEST)}", key)
    return mark_of(match.group(1)) if match else None


def load_manifest(run: RunFolder, key: str) -> Manifest:
    """Read a manifest by its key (relative to the run's folder).

    MissingError when there is none, DamagedError when it is torn, altered or not in its
    place, StorageError when a newer tunefleet wrote it.
    """
    place = f"{run.uri}/{key}"
    body = run.store.get(run.key(key))
    refuse_newer(body, place)
    try:
        manifest = Manifest.from_json(body)
        fits = manifest.seal == _seal(json.loads(body))
    except (ValidationError, ValueError) as error:
        raise DamagedError(f"{place} is damaged: it is no manifest") from error
    if not fits:
        raise DamagedError(f"{place} is damaged: it was altered after it was written")
    mark = mark_of_key(key)
    if manifest.key != key or mark is None:
        raise DamagedError(f"{place} is damaged: it is the manifest of {manifest.name}")
    if mark.place != (manifest.attempt, manifest.start, manifest.sequence):
        raise DamagedError(f"{place} is damaged: it was written by another start")
    return manifest


def verify(run: RunFolder, manifest: Manifest, scratch: Path | None = None) -> list[str]:
    """Read every file back, some at once; what is wrong, or nothing. Cheap checks come first.

    What is read from a remote store is kept in ``scratch``, where :func:`take_file` finds it.
    """
    problems = size_problems(run, manifest.name, manifest.files)
    if problems:
        return problems

    def problem(name: str) -> str | None:
        key = run.key(CHECKPOINTS, manifest.name, name)
        try:
            if scratch is not None and run.store.local_path(key) is None:
                path = local_copy(run, manifest, name, scratch)
                _, sha = run.store.fetch(key, path)
            else:
                _, sha = run.store.digest(key)
        except MissingError:
            return f"{manifest.name}/{name} is missing"
        if sha != manifest.files[name].sha256:
            return f"{manifest.name}/{name} was altered (its sha256 differs)"
        return None

    with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="verify") as pool:
        return [found for found in pool.map(problem, sorted(manifest.files)) if found]


def size_problems(run: RunFolder, name: str, files: dict[str, FileEntry]) -> list[str]:
    """Files of a checkpoint that are missing or have the wrong size."""
    prefix = run.key(CHECKPOINTS, name)
    found = dict(run.store.list(prefix))
    problems = []
    for file, entry in sorted(files.items()):
        size = found.get(f"{prefix}/{file}")
        if size is None:
            problems.append(f"{name}/{file} is missing")
        elif size != entry.size:
            problems.append(f"{name}/{file} has {size} bytes instead of {entry.size}")
    return problems


def take_file(run: RunFolder, manifest: Manifest, name: str, scratch: Path) -> bool:
    """Have a file of the stated size at :func:`local_copy`; whether it was hashed on its way.

    On ``file://`` it is the checkpoint's own file; elsewhere a copy in ``scratch``, which is
    fetched unless it is there. MissingError when there is none, DamagedError when it is not
    what the manifest states.
    """
    entry = _entry(run, manifest, name)
    key = run.key(CHECKPOINTS, manifest.name, name)
    path = local_copy(run, manifest, name, scratch)
    if run.store.local_path(key) is None and not path.exists():
        if run.store.fetch(key, path) != (entry.size, entry.sha256):
            path.unlink()
            raise _altered(run, manifest, name)
        return True
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise MissingError(f"{name} of checkpoint {manifest.name} is missing") from error
    if size != entry.size:
        raise _altered(run, manifest, name)
    return False


def check_file(run: RunFolder, manifest: Manifest, name: str, scratch: Path) -> None:
    """Read what :func:`take_file` found to the last byte; DamagedError when it was altered."""
    key = run.key(CHECKPOINTS, manifest.name, name)
    if run.store.local_path(key) is None:
        found = digest_of_file(local_copy(run, manifest, name, scratch))
    else:
        found = run.store.digest(key)
    check_digest(run, manifest, name, found)


def check_digest(run: RunFolder, manifest: Manifest, name: str, found: tuple[int, str]) -> None:
    """DamagedError where the size and sha256 that were found are not those of the manifest."""
    entry = _entry(run, manifest, name)
    if found != (entry.size, entry.sha256):
        raise _altered(run, manifest, name)


def local_copy(run: RunFolder, manifest: Manifest, name: str, scratch: Path) -> Path:
    """Where :func:`take_file` finds or puts a file; says nothing of whether it is there."""
    path = run.store.local_path(run.key(CHECKPOINTS, manifest.name, name))
    return scratch / manifest.name / name if path is None else path


def _entry(run: RunFolder, manifest: Manifest, name: str) -> FileEntry:
    entry = manifest.files.get(name)
    if entry is None:
        raise MissingError(
            f"checkpoint {manifest.name} of {run.uri} holds no {name}",
            remedy=f"it holds {', '.join(sorted(manifest.files))}",
        )
    return entry


def _altered(run: RunFolder, manifest: Manifest, name: str) -> DamagedError:
    return DamagedError(
        f"{name} of checkpoint {manifest.name} in {run.uri} was altered after it was written",
        remedy="run again: the newest whole checkpoint before it is used",
    )


def _seal(found: dict[str, object]) -> str:
    rest = {name: value for name, value in found.items() if name != "seal"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
