"""A checkpoint's files on this node, each fetched and checked once.

Decides who reads: the first process of a node reads a file to the last byte (from a remote
store into the node's scratch folder), the others map what it has checked. Imports ``storage``
and the group.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunefleet.storage.checkpoints import Manifest, local_copy, open_file
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
        """Gives the local path of each named file, checked, for the duration of a block.

        All are read at once, so that one is put into place while the next is still on its
        way. Every process of the group asks for the same files in the same order. Raises
        ``DamagedError`` on the process that finds a file altered.
        """
        folder = self.folder
        with ThreadPoolExecutor(len(names), thread_name_prefix="restore") as pool:
            read = {
                name: pool.submit(open_file, self.run, manifest, name, folder)
                for name in names
                if self.local_rank == 0
            }

            def opened(name: str) -> Path:
                if name in read:
                    read[name].result()
                self.group.barrier()
                return local_copy(self.run, manifest, name, folder)

            yield opened
        self.group.barrier()
        if self.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
