"""A watch over steps: a process that makes no progress ends itself and says where it hung.

Decides the deadline: a multiple of the slowest step seen, never less than a floor that
covers a first step; what is known to take longer is told beforehand. Collectives have no useful
timeout of their own, and a rank that sleeps would hold paid machines for ever.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

EXIT_HUNG = 86


class Watchdog:
    """Ends the process when ``beat`` was not called for too long."""

    def __init__(
        self,
        stacks: Path,
        *,
        floor_seconds: float,
        multiple: float = 20.0,
        on_hang: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = time.monotonic,
        last_words_seconds: float = 30.0,
    ) -> None:
        self._stacks = stacks
        self._floor = floor_seconds
        self._multiple = multiple
        self._on_hang = on_hang
        self._clock = clock
        self._last_words_seconds = last_words_seconds
        self._last = clock()
        self._slowest = self._allowed = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @property
    def deadline_seconds(self) -> float:
        """How long may pass between two beats."""
        return max(self._floor, self._multiple * self._slowest) + self._allowed

    def start(self) -> None:
        """Begin to watch."""
        self._last = self._clock()
        self._thread.start()

    def beat(self) -> None:
        """Say that progress was made."""
        now = self._clock()
        self._slowest = max(self._slowest, now - self._last - self._allowed)
        self._last, self._allowed = now, 0.0

    def expect(self, seconds: float) -> None:
        """From now the next beat may take so much longer than any other."""
        self._last, self._allowed = self._clock(), seconds

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._floor / 4)):
            # (In this order: a beat in between shortens both.)
            deadline = self.deadline_seconds
            silent = self._clock() - self._last
            if silent <= deadline:
                continue
            try:
                # What hangs may be the very store that is to be told.
                end = threading.Timer(self._last_words_seconds, os._exit, (EXIT_HUNG,))
                end.daemon = True
                end.start()
                with self._stacks.open("w") as file:
                    faulthandler.dump_traceback(file, all_threads=True)
                self._on_hang(silent)
            finally:
                # The hung thread may hold any lock, the disk may be full and the store away:
                # nothing else can be relied on.
                os._exit(EXIT_HUNG)
