"""A pod that is about to go: its worker is told, and the pod waits until it has saved.

Decides the two files by which a container's ``preStop`` hook and the workers of the same pod
talk: ``leaving`` asks, and a worker's ``working`` file is there as long as it has something to
lose. The hook is bounded by the pod's grace time, after which the kubelet kills. Imports the
standard library alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Leaving:
    """The end of a pod, seen from inside it. ``folder`` is the attempt's scratch folder."""

    folder: Path

    @property
    def _request(self) -> Path:
        return self.folder / "leaving"

    def asked(self) -> bool:
        """Whether this pod is about to go."""
        return self._request.exists()

    @contextmanager
    def work(self) -> Iterator[None]:
        """A worker of this pod has something to lose for the duration of a block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / f"working-{os.getpid()}"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def ask(self, seconds: float) -> bool:
        """Ask the workers to save and stop; whether they have, within so many seconds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._request.touch()
        deadline = time.monotonic() + seconds
        while self._working():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _working(self) -> bool:
        """Whether a worker still works; the mark of a killed one does not count."""
        for mark in self.folder.glob("working-*"):
            try:
                os.kill(int(mark.name.partition("-")[2]), 0)
            except ProcessLookupError:
                continue
            return True
        return False
