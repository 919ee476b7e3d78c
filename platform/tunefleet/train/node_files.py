"""A checkpoint's files on this node, each fetched and checked once.

Decides who reads: the first process of a node reads a file to the last byte (from a remote
store into the node's scratch folder), the others map the same file. A file is put into place while
it is still being checked; nobody goes on before it was found whole. Imports ``storage`` and the
group.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunefleet.storage.checkpoints import Manifest, check_file, local_copy, take_file
from tunefleet.storage.run import RunStore
from tunefleet.train.group import Group


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
    def of(self, manifest: Manifest, *names: str) -> Iterator[Callable[[str], Path]]:
        """Gives the local path of each named file for the duration of a block.

        All are read at once, so that one is put into place while the next is still on its
        way, and hashed meanwhile: what was read in the block may be used once the block has
        ended. Every process of the group asks for the same files in the same order. Raises
        ``DamagedError`` on the process that finds a file altered, at the end of the block at
        the latest, also in the place of whatever such a file led to.
        """
        folder, mine = self.folder, names if self.local_rank == 0 else ()
        with ThreadPoolExecutor(2 * len(names), thread_name_prefix="restore") as pool:
            taken = {
                name: pool.submit(take_file, self.run, manifest, name, folder) for name in mine
            }

            def check(name: str) -> None:
                if not taken[name].result():
                    check_file(self.run, manifest, name, folder)

            checks = [pool.submit(check, name) for name in mine]

            def opened(name: str) -> Path:
                if name in taken:
                    taken[name].result()
                self.group.barrier()
                return local_copy(self.run, manifest, name, folder)

            try:
                yield opened
            finally:
                for each in checks:
                    each.result()
        self.group.barrier()
        if self.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
