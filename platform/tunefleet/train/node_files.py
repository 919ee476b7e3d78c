"""A checkpoint's files on this node, each fetched and checked once.

Decides who reads: the first process of a node reads a file to the last byte (from a remote
store into the node's scratch folder), the others map what it has checked. Imports ``storage``
and the group.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
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

    @contextmanager
    def of(self, manifest: Manifest) -> Iterator[Callable[[str], Path]]:
        """Gives a checked file's local path by its name, for the duration of a block.

        Every process of the group asks for the same files in the same order. Raises
        ``DamagedError`` on the process that finds a file altered.
        """
        folder = self.scratch / "restore"

        def opened(name: str) -> Path:
            if self.local_rank == 0:
                open_file(self.run, manifest, name, folder)
            self.group.barrier()
            return local_copy(self.run, manifest, name, folder)

        yield opened
        self.group.barrier()
        if self.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
