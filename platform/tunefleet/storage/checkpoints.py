"""Committing checkpoints; the door to all that is done with them.

Decides the order of a commit: data files, their sizes, the fence, the manifest, the fence
again. Only a commit that returns is a checkpoint. Imports ``api`` and its siblings.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tunefleet.api.errors import StorageError
from tunefleet.storage.chain import Search, chain, find_head, manifests_by_writer
from tunefleet.storage.faults import FencedError
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.manifest import (
    CHECKPOINTS,
    MANIFEST,
    DamagedError,
    FileEntry,
    Manifest,
    check_digest,
    check_file,
    checkpoint_name,
    load_manifest,
    local_copy,
    manifest_key,
    mark_of,
    size_problems,
    take_file,
    verify,
)
from tunefleet.storage.records import StartRecord, now
from tunefleet.storage.retention import collect, keep_bundle, retain, sweep

__all__ = [
    "CheckpointWriter",
    "DamagedError",
    "FencedError",
    "FileEntry",
    "Manifest",
    "Search",
    "chain",
    "check_digest",
    "check_file",
    "collect",
    "find_head",
    "keep_bundle",
    "load_manifest",
    "local_copy",
    "retain",
    "sweep",
    "take_file",
    "verify",
]


class CheckpointWriter:
    """Commits the checkpoints of one start. One per start; commits are taken one by one."""

    def __init__(self, run: RunFolder, start: StartRecord) -> None:
        self._run = run
        self._start = start
        self._lock = threading.Lock()
        self._sequence = 0
        self._parent = start.resumed_from
        self._parent_step = start.resumed_step if start.resumed_from else None
        self._take_up()

    def commit(
        self,
        step: int,
        files: Mapping[str, bytes | memoryview | Path],
        *,
        metric: float | None,
        chain: str,
        digests: Mapping[str, str],
    ) -> Manifest:
        """Write a checkpoint; when this returns it is one, and every later start sees it.

        FencedError when a newer attempt or start exists. StorageError when the store fails:
        nothing that was committed before is touched, and what this call wrote is removed
        where that is possible, so that a full disk is not left fuller. A metric that is no
        finite number cannot be the best and is recorded as none.
        """
        with self._lock:
            if step < (self._parent_step or 0):
                raise ValueError(f"step {step} is older than the checkpoint {self._parent}")
            self._sequence += 1
            name = checkpoint_name(
                step, self._start.attempt, self._start.start, self._sequence, secrets.token_hex(3)
            )
            with self._told_when_fenced():
                entries = self._write_data(name, files)
            manifest = Manifest(
                name=name,
                step=step,
                attempt=self._start.attempt,
                start=self._start.start,
                sequence=self._sequence,
                parent=self._parent,
                parent_step=self._parent_step,
                files=entries,
                metric=metric if metric is not None and math.isfinite(metric) else None,
                chain=chain,
                digests=dict(digests),
                created=now(),
            ).sealed()
            with self._told_when_fenced():
                self._write_manifest(manifest)
            self._check_fence()
            self._parent, self._parent_step = manifest.key, step
            return manifest

    @contextlib.contextmanager
    def _told_when_fenced(self) -> Iterator[None]:
        """A writer that slept may find its files collected: that is its successor's doing."""
        try:
            yield
        except FencedError:
            raise
        except StorageError:
            try:
                self._check_fence()
            except FencedError:
                raise
            except StorageError:
                pass  # the store is away: the first error says more
            raise

    def _take_up(self) -> None:
        """Go on after the commits this start has made already, if any."""
        run, own = self._run, (self._start.attempt, self._start.start)
        marks = [mark_of(name) for name in run.store.folders(run.key(CHECKPOINTS))]
        taken = [mark.sequence for mark in marks if mark and mark.writer == own]
        self._sequence = max(taken, default=0)
        for mark in reversed(manifests_by_writer(run).get(own, []) if taken else []):
            with contextlib.suppress(DamagedError):
                manifest = load_manifest(run, manifest_key(mark.name))
                self._parent, self._parent_step = manifest.key, manifest.step
                return

    def _write_data(
        self, name: str, files: Mapping[str, bytes | memoryview | Path]
    ) -> dict[str, FileEntry]:
        run, entries = self._run, dict[str, FileEntry]()
        if not files or MANIFEST in files:
            raise ValueError(f"a checkpoint needs files, and none of them is {MANIFEST}")
        try:
            for file, body in files.items():
                size, sha = run.store.write(run.key(CHECKPOINTS, name, file), body)
                entries[file] = FileEntry(size=size, sha256=sha)
            run.store.flush(run.key(CHECKPOINTS, name, file) for file in entries)
            problems = size_problems(run, name, entries)
            if problems:
                raise StorageError(
                    f"the store does not hold what was written: {'; '.join(problems)}",
                    remedy="look whether something else deletes or changes files of this run",
                )
            self._check_fence()
        except StorageError:
            with contextlib.suppress(StorageError):
                run.store.delete_folder(run.key(CHECKPOINTS, name))
            raise
        return entries

    def _write_manifest(self, manifest: Manifest) -> None:
        """Conditional create; a reply that got lost is settled by reading back."""
        run = self._run
        key, body = run.key(manifest.key), manifest.to_json(indent=1).encode()
        try:
            created = run.store.create(key, body)
        except StorageError:
            with contextlib.suppress(StorageError):
                if run.store.get(key) == body:
                    return
            raise
        if not created and run.store.get(key) != body:
            raise FencedError(
                f"{run.uri}/{manifest.key} exists already: two processes write as one start",
                remedy="stop one of them",
            )
        run.store.flush([key])

    def _check_fence(self) -> None:
        self._run.check_fence(self._start.attempt, self._start.start)
