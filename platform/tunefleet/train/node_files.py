"""A checkpoint's files on this node, each fetched and checked once.

Decides who checks: the first process of a node fetches a file (from a remote store into the node's
scratch folder) and hashes what it reads of it, the others read the same file. A file is put into
place while it is still being hashed; nobody goes on before it was found whole. What was hashed on
its way from a remote store is not hashed again as it is read from scratch: there the disk of the
node is trusted. Imports ``storage`` and the group.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from tunefleet.storage.checkpoints import (
    DamagedError,
    Manifest,
    check_digest,
    check_file,
    local_copy,
    take_file,
)
from tunefleet.storage.digests import HashedReader
from tunefleet.storage.run import RunStore
from tunefleet.train.group import Group

Opened = Callable[[str], HashedReader | FileIO]
"""Gives a file of a checkpoint, to be read from its beginning."""


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """``local_rank`` counts the processes of this node, which share ``scratch``."""

    run: RunStore
    group: Group
    local_rank: int
    scratch: Path

    @property
    def folder(self) -> Path:
        """Where files of a remote store lie while they are needed."""
        return self.scratch / "restore"

    @contextmanager
    def of(self, manifest: Manifest, *names: str) -> Iterator[Opened]:
        """Opens each named file, once, for the duration of a block.

        All are fetched at once, so that one is put into place while the next is still on its
        way. What is read into in the block has to stay as it is, and may be used once the block
        has ended. Every process of the group asks for the same files in the same order.

        Raises ``DamagedError`` on the process that finds a file altered, at the end of the block
        at the latest, in the place of whatever such a file led to; on the others of the node in
        the place of whatever they could not read.
        """
        checked = self._checked if self.local_rank == 0 else self._unchecked
        with checked(manifest, names) as opened:
            yield opened
        self.group.barrier()
        if self.local_rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _checked(self, manifest: Manifest, names: Sequence[str]) -> Iterator[Opened]:
        try:
            with self._opened(manifest, names, names) as opened:
                yield opened
        except DamagedError:
            # The copy may be all that is damaged: the next start fetches it anew.
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @contextmanager
    def _unchecked(self, manifest: Manifest, names: Sequence[str]) -> Iterator[Opened]:
        try:
            with self._opened(manifest, names, ()) as opened:
                yield opened
        except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(
                f"checkpoint {manifest.name} could not be read: {error}; the first process of "
                "this node says why",
                remedy="run again: the newest whole checkpoint is used",
            ) from error

    @contextmanager
    def _opened(
        self, manifest: Manifest, names: Sequence[str], mine: Sequence[str]
    ) -> Iterator[Opened]:
        """Those files that are ``mine`` are fetched and checked here, the others elsewhere."""
        folder = self.folder
        hashed: dict[str, HashedReader] = {}
        with (
            ThreadPoolExecutor(len(names), thread_name_prefix="restore") as pool,
            ExitStack() as ends,
        ):
            taken = {
                name: pool.submit(take_file, self.run, manifest, name, folder) for name in mine
            }

            def opened(name: str) -> HashedReader | FileIO:
                to_hash = name in taken and not taken[name].result()
                self.group.barrier()
                path = local_copy(self.run, manifest, name, folder)
                if not to_hash:
                    return ends.enter_context(path.open("rb", buffering=0))
                hashed[name] = ends.enter_context(HashedReader(path))
                return hashed[name]

            try:
                yield opened
            finally:
                for name, whole in taken.items():
                    if name in hashed:
                        check_digest(self.run, manifest, name, hashed[name].digest())
                    elif not whole.result():
                        check_file(self.run, manifest, name, folder)
