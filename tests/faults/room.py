"""A disk of a few megabytes that a test fills to the last byte and makes room on again.

A file system in memory of its own where one can be mounted (Linux, root); elsewhere a folder whose
writes the lowest layer, the object-store client, refuses with the words of a full disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SIZE = 24 << 20  # the probe of a store writes 8 MiB
_CHUNK = bytes(1 << 20)
_FULL = "No space left on device (os error 28)"


@dataclass(frozen=True, slots=True)
class Disk:
    """Where stores may lie. ``mounted``: it is a file system of its own."""

    folder: Path
    mounted: bool

    @property
    def ballast(self) -> Path:
        """What takes the room; without a file system of its own, what says that there is none."""
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        with self.ballast.open("wb", buffering=0) as file:
            try:
                while self.mounted:
                    file.write(_CHUNK)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self) -> None:
        """Make room again."""
        self.ballast.unlink()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A disk at ``folder`` for the duration of a block."""
    folder.mkdir()
    mounted = _mount(folder)
    try:
        yield Disk(folder, mounted)
    finally:
        if mounted:
            # (Lazily: a killed process may hold a file for a moment still.)
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _mount(folder: Path) -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    options = f"size={_SIZE},mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def pretend(ballast: Path) -> None:
    """In this process: the client finds no room for as long as there is ballast."""
    from tunefleet.storage import store as module

    real: Any = vars(module)["obstore"]

    class Small:
        def __getattr__(self, name: str) -> object:
            if name == "put" and ballast.exists():
                return _no_room
            return getattr(real, name)

    vars(module)["obstore"] = Small()


def _no_room(*arguments: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, _FULL)
