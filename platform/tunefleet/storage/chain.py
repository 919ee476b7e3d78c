"""The chain rule: which checkpoints are a run's history, and which one is its head.

The history of a run is the *line* of its newest start: that start's own commits, then those
commits of the start it resumed from up to the one it resumed from, and so on. What stands
outside the line (a late write of a fenced writer) does not exist. Names and start records
alone decide the line, so a deleted or damaged manifest leaves a gap and no dead end. Clocks
decide nothing. Imports its siblings below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.errors import StorageError
from tunefleet.storage.faults import MissingError
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.manifest import (
    CHECKPOINTS,
    MANIFEST,
    DamagedError,
    Manifest,
    Mark,
    load_manifest,
    manifest_key,
    mark_of,
    mark_of_key,
    verify,
)

_NO_BOUND = 1 << 62


@dataclass(frozen=True, slots=True)
class Search:
    """What a search for the head found.

    ``line`` are the checkpoints of the history whose manifest exists, newest first;
    ``passed_over`` says which of those newer than the head cannot be used, and why.
    """

    head: Manifest | None
    passed_over: list[str]
    line: list[Mark]


def find_head(run: RunFolder, scratch: Path | None = None) -> Search:
    """The newest checkpoint of the history that is whole, read back to the last byte.

    The files of a remote head are kept in ``scratch``, so that restoring need not read them
    again.

    StorageError when a newer tunefleet wrote a manifest on the way, when parents form a
    loop, or when the store cannot be read: none of these is a reason to fall back.
    """
    marks = line(run)
    passed_over: list[str] = []
    for mark in marks:
        try:
            manifest = _load(run, mark)
        except MissingError:  # deleted by retention after it was listed
            continue
        except DamagedError as error:
            passed_over.append(error.message)
            continue
        problems = verify(run, manifest, scratch)
        if not problems:
            return Search(manifest, passed_over, marks)
        passed_over += problems
    return Search(None, passed_over, marks)


def chain(run: RunFolder) -> list[Manifest]:
    """The history from the head to the first checkpoint that retention has left.

    Only the head's files are read back; damaged manifests below it are left out.
    """
    return chain_of(run, find_head(run))


def chain_of(run: RunFolder, search: Search) -> list[Manifest]:
    """The history below a head that has been found already."""
    if search.head is None:
        return []
    found = [search.head]
    at = next(i for i, mark in enumerate(search.line) if mark.name == found[0].name)
    for mark in search.line[at + 1 :]:
        try:
            found.append(_load(run, mark))
        except (MissingError, DamagedError):
            continue
    return found


def line(run: RunFolder) -> list[Mark]:
    """Checkpoints of the history whose manifest exists (read or not), newest first."""
    recorded = run.start_numbers()
    written = manifests_by_writer(run)
    writer = _newest(run, recorded, written)
    bound = _NO_BOUND
    found: list[Mark] = []
    while writer is not None:
        own = [mark for mark in written.get(writer, []) if mark.sequence <= bound]
        found += reversed(own)
        origin = _origin(run, writer, own, written)
        if origin is None:
            break
        if origin.writer >= writer:
            raise _loop(run, f"start {writer[0]}.{writer[1]}", origin.name)
        writer, bound = origin.writer, origin.sequence
    return found


def manifests_by_writer(run: RunFolder) -> dict[tuple[int, int], list[Mark]]:
    """Marks of all manifests in the store by (attempt, start), each list ascending."""
    own = len(run.key("x")) - 1
    found: dict[tuple[int, int], list[Mark]] = {}
    for key, _ in run.store.list(run.key(CHECKPOINTS)):
        mark = mark_of_key(key[own:]) if key.endswith(f"/{MANIFEST}") else None
        if mark is not None:
            found.setdefault(mark.writer, []).append(mark)
    return {writer: sorted(marks) for writer, marks in found.items()}


def _newest(
    run: RunFolder, recorded: list[tuple[int, int]], written: dict[tuple[int, int], list[Mark]]
) -> tuple[int, int] | None:
    """The newest start that stands: it has a record that reads, or has committed."""
    for writer in sorted({*recorded, *written}, reverse=True):
        if writer in written or run.start_of(*writer) is not None:
            return writer
    return None


def _origin(
    run: RunFolder,
    writer: tuple[int, int],
    own: list[Mark],
    written: dict[tuple[int, int], list[Mark]],
) -> Mark | None:
    """The checkpoint a start resumed from: by its record; where that is lost, by parents."""
    record = run.start_of(*writer)
    if record is not None:
        return None if record.resumed_from is None else _mark(run, record.resumed_from)
    for mark in own:
        try:
            manifest = _load(run, mark)
        except (MissingError, DamagedError):
            continue
        if manifest.parent is None:
            return None
        parent = _mark(run, manifest.parent)
        if parent.writer != writer:
            return parent
    # Neither tells. The newest commit of any older start is at least of this very run.
    older = [other for other in written if other < writer]
    return written[max(older)][-1] if older else None


def _load(run: RunFolder, mark: Mark) -> Manifest:
    manifest = load_manifest(run, manifest_key(mark.name))
    if manifest.parent is not None and _mark(run, manifest.parent).place >= mark.place:
        raise _loop(run, f"checkpoint {mark.name}", manifest.parent)
    return manifest


def _mark(run: RunFolder, key: str) -> Mark:
    mark = mark_of_key(key)
    if mark is None or mark_of(mark.name) is None:
        raise StorageError(
            f"{run.uri} names {key!r} as a checkpoint, which is none",
            remedy="the run was altered by hand; begin another one with --fresh",
        )
    return mark


def _loop(run: RunFolder, one: str, other: str) -> StorageError:
    return StorageError(
        f"{run.uri}: {one} names {other} as its parent, which is not older: the history is a loop",
        remedy="the run was altered by hand; begin another one with --fresh",
    )
