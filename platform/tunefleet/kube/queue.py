"""Which keys are to be worked on, each by one worker at a time.

Decides when a key is ready: at once when it is added, later when a delay or a back-off says
so, and again after its work when it was added meanwhile. A key that waits is not queued
twice. The clock is the event loop's. Imports the standard library.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from tunefleet.kube import metrics

FIRST_BACK_OFF = 1.0
LONGEST_BACK_OFF = 300.0

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys that want work.

    A key is *dirty* from its adding until a worker takes it, and *processing* until the worker
    is done with it. A key that gets dirty while it is being worked on waits for that work's
    end: so no event is lost, and no key is worked on twice at once.
    """

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._ready: deque[K] = deque()
        self._dirty: dict[K, float] = {}
        self._processing: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Whether nothing is ready and nothing is being worked on; delays apart."""
        return not self._dirty and not self._processing

    def add(self, key: K) -> None:
        """Have a key worked on as soon as a worker is free."""
        if key in self._dirty:
            return
        self._dirty[key] = asyncio.get_running_loop().time()
        if key not in self._processing:
            self._make_ready(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have a key worked on after a delay. Of several delays the one that ends first counts."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        if timer := self._timers.get(key):
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def back_off(self, key: K, at_least: float = 0.0) -> float:
        """Have a key that failed worked on again: later, the more often it failed in a row.

        Returns the delay in seconds.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent has a limit, or a key that fails for days overflows a float.
        longest = min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures, 16))
        # Spread downwards, so that keys that failed together do not come back together.
        delay = max(at_least, longest * (0.5 + 0.5 * self._jitter()))
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """A key's work succeeded: its failures count no longer."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; :meth:`done` must follow."""
        while not self._ready:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                elif self._ready:
                    # Woken and cancelled at once: somebody else must take what is ready.
                    self._wake()
                raise
        key = self._ready.popleft()
        added = self._dirty.pop(key)
        self._processing.add(key)
        metrics.QUEUE_DEPTH.set(len(self._ready))
        metrics.QUEUE_WAIT_SECONDS.observe(asyncio.get_running_loop().time() - added)
        return key

    def done(self, key: K) -> None:
        """A key's work ended, well or not. If it was added meanwhile, it is ready again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._make_ready(key)

    def close(self) -> None:
        """Let no delay end any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    def _make_ready(self, key: K) -> None:
        self._ready.append(key)
        metrics.QUEUE_DEPTH.set(len(self._ready))
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
