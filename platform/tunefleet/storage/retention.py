"""What may be deleted: checkpoints nobody asked to keep, bundles nobody was told of, and debris.

Decides that a manifest goes first and its data after it, so that a kill between any two
deletes leaves whole checkpoints and debris, never a manifest without its files. Imports its
siblings below it.
"""

from __future__ import annotations

import os
from pathlib import Path

from tunefleet.storage.chain import chain_of, find_head, line, manifests_by_writer
from tunefleet.storage.faults import MissingError
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.keys import is_draft
from tunefleet.storage.manifest import (
    CHECKPOINTS,
    DamagedError,
    Manifest,
    Mark,
    load_manifest,
    manifest_key,
    mark_of,
    mark_of_key,
    size_problems,
)
from tunefleet.storage.records import StartRecord


def retain(
    run: RunFolder,
    *,
    keep_last: int,
    keep_best: int,
    higher_is_better: bool,
    history: list[Manifest] | None = None,
) -> list[str]:
    """Delete what of the history is neither among the last nor the best; their names.

    The head is read back to the last byte first and is always kept: an older checkpoint
    never goes because of a newer one that cannot be used. One that lacks files counts for
    nothing. Of equal metrics the earliest is best. ``history`` is the chain where it has
    just been read.
    """
    history = chain_of(run, find_head(run)) if history is None else history
    whole = [found for found in history if not size_problems(run, found.name, found.files)]
    kept = {manifest.name for manifest in whole[: max(1, keep_last)]}
    kept |= {manifest.name for manifest in best(whole, keep_best, higher_is_better)}
    gone = [manifest.name for manifest in history if manifest.name not in kept]
    for name in reversed(gone):
        _delete(run, name)
    return gone


def best(history: list[Manifest], count: int, higher_is_better: bool) -> list[Manifest]:
    """The ``count`` best of a history by metric, best first; earlier wins a tie."""
    sign = -1.0 if higher_is_better else 1.0
    rated = [
        (sign * manifest.metric, manifest.step, manifest.sequence, manifest)
        for manifest in history
        if manifest.metric is not None
    ]
    return [entry[-1] for entry in sorted(rated, key=lambda entry: entry[:-1])[:count]]


def collect(run: RunFolder, start: StartRecord | None = None) -> list[str]:
    """Delete debris: what is no checkpoint of the history and can never become one.

    Never touches what a live writer is writing: without a manifest a folder goes only when
    its writer is over, or when the same writer has committed a later one since. A writer is
    over when a later start has its record (which fixes the history it goes on from) or its
    attempt has an exit record. Both are read before the manifests are listed: the other way
    round a commit in between would look like debris. Unknown names are left alone.
    ``start`` was claimed just now: what it goes on from need not be verified again.
    """
    newest_start = max(run.start_numbers(), default=(0, 0))
    ended = run.ended_attempts()
    if start is None:
        search = find_head(run)
        head, history = mark_of(search.head.name) if search.head else None, search.line
    else:
        head, history = mark_of_key(start.resumed_from or ""), line(run)
    in_line = {mark.name for mark in history}
    written = manifests_by_writer(run)
    with_manifest = {mark.name for marks in written.values() for mark in marks}
    gone = []
    for name in run.store.folders(run.key(CHECKPOINTS)):
        mark = mark_of(name)
        if mark is None:
            continue
        over = mark.writer < newest_start or mark.attempt in ended
        if name in in_line:
            debris = head is not None and mark < head and _unreadable(run, mark)
        elif name in with_manifest:
            debris = over
        else:
            later = written.get(mark.writer, [])
            debris = over or bool(later and later[-1].sequence > mark.sequence)
        if debris:
            _delete(run, name)
            gone.append(name)
    sweep(run)
    return gone


def sweep(run: RunFolder) -> None:
    """Delete files that a kill left half written (``<name>#<n>``); only disks keep such.

    For the owner of a run, when nobody else may write it. A fenced process whose draft goes
    fails with an error, as it would have at its next write.
    """
    folder = run.store.local_path(run.key())
    # (A walk, which does not mind that a folder vanishes under it.)
    for where, _, names in os.walk(folder) if folder is not None else ():
        for name in filter(is_draft, names):
            Path(where, name).unlink(missing_ok=True)


def keep_bundle(run: RunFolder, name: str) -> list[str]:
    """Delete every bundle but ``name``, which the outcome names; the names of those gone.

    The others were made by a start that was killed before it could tell anybody.
    """
    gone = [other for other in run.store.folders(run.key("bundle")) if other != name]
    for other in gone:
        run.store.delete_folder(run.key("bundle", other))
    return gone


def _delete(run: RunFolder, name: str) -> None:
    run.store.delete([run.key(manifest_key(name))])
    run.store.delete_folder(run.key(CHECKPOINTS, name))


def _unreadable(run: RunFolder, mark: Mark) -> bool:
    try:
        load_manifest(run, manifest_key(mark.name))
    except DamagedError:
        return True
    except MissingError:
        pass
    return False
