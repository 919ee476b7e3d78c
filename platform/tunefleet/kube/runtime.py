"""The life of a controller: caches first, then leadership, then workers on a queue.

Decides the order of starting and stopping, and what a reconcile's outcome means for its key:
done, done for now, or failed and tried again later. Imports this package.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from tunefleet.kube import metrics
from tunefleet.kube.errors import ApiError, Fenced
from tunefleet.kube.queue import WorkQueue

log = logging.getLogger("tunefleet.kube")

RESYNC_SECONDS = 600.0
"""How often every key is looked at, whatever happened: what no event tells shows then."""
RECONCILE_SECONDS = 300.0
"""How long one reconcile may take before it counts as stuck, and as failed."""
DRAIN_SECONDS = 10.0
"""How long a reconcile may go on after the process was asked to stop."""
SILENCE_UNREADY_SECONDS = 180.0

K = TypeVar("K", bound=Hashable)


class Follower(Protocol):
    """A reflector, of whatever projection."""

    @property
    def synced(self) -> asyncio.Event: ...
    @property
    def trouble(self) -> str: ...
    @property
    def silent_seconds(self) -> float: ...
    async def run(self) -> None: ...


class Candidate(Protocol):
    """Who seeks leadership, until cancelled; ``elected`` is set while it leads."""

    @property
    def elected(self) -> asyncio.Event: ...
    async def run(self) -> None: ...
    async def release(self) -> None: ...


class Runtime(Generic[K]):
    """Reflectors that fill a queue, and workers that reconcile its keys.

    ``reconcile`` brings one key's objects to where they should be, and says in how many seconds
    it wants to be called again (None: only when something happens). It is called again as well
    after every exception, with a growing delay. ``keys`` are all keys there are.
    """

    def __init__(
        self,
        reflectors: Sequence[Follower],
        queue: WorkQueue[K],
        reconcile: Callable[[K], Awaitable[float | None]],
        *,
        keys: Callable[[], Iterable[K]],
        workers: int = 16,
        resync_seconds: float = RESYNC_SECONDS,
    ) -> None:
        self._reflectors = reflectors
        self._queue = queue
        self._reconcile = reconcile
        self._keys = keys
        self._workers = workers
        self._resync_seconds = resync_seconds

    async def run(self, stop: asyncio.Event, candidate: Candidate | None = None) -> None:
        """Run until ``stop`` is set: with a candidate, workers start once it is elected.

        A part that fails ends the whole, with its exception.
        """
        async with asyncio.TaskGroup() as parts:
            following = [parts.create_task(reflector.run()) for reflector in self._reflectors]
            if candidate is not None:
                following.append(parts.create_task(candidate.run()))
            starting = parts.create_task(self._start(candidate))
            await stop.wait()
            starting.cancel()
            # The caches stay warm and leadership stays ours until the last worker has ended.
            await asyncio.wait([starting])
            for task in following:
                task.cancel()
        self._queue.close()
        if candidate is not None:
            await candidate.release()

    def unready(self) -> str:
        """Why no work can be done well now; empty if it can. A standby is ready too."""
        for reflector in self._reflectors:
            if not reflector.synced.is_set():
                return reflector.trouble or "the first lists are being read"
            if reflector.silent_seconds > SILENCE_UNREADY_SECONDS:
                return reflector.trouble or "the API server is silent"
        return ""

    async def synced(self) -> None:
        """Wait until every cache holds all there was when it was listed."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))

    async def _start(self, candidate: Candidate | None) -> None:
        await self.synced()
        log.info("the caches are filled")
        if candidate is not None:
            await candidate.elected.wait()
        log.info("%d workers start", self._workers)
        async with asyncio.TaskGroup() as workers:
            workers.create_task(self._resync())
            for _ in range(self._workers):
                workers.create_task(self._work())

    async def _resync(self) -> None:
        while True:
            for key in self._keys():
                self._queue.add(key)
            await asyncio.sleep(self._resync_seconds)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            work = asyncio.create_task(self._one(key))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                # Asked to stop: a write that was begun is better finished than repeated.
                await asyncio.wait([work], timeout=DRAIN_SECONDS)
                work.cancel()
                await asyncio.wait([work], timeout=DRAIN_SECONDS)
                raise
            finally:
                self._queue.done(key)

    async def _one(self, key: K) -> None:
        began = time.perf_counter()
        outcome = "done"
        try:
            async with asyncio.timeout(RECONCILE_SECONDS):
                again = await self._reconcile(key)
            self._queue.forget(key)
            if again is not None:
                self._queue.add_after(key, again)
        except ApiError as error:
            outcome = "conflict" if error.conflict else "refused"
            delay = self._queue.back_off(key, at_least=error.retry_after or 0.0)
            level = logging.DEBUG if error.conflict else logging.WARNING
            log.log(level, "%s is tried again in %.1f s: %s", key, delay, error)
        except Fenced as error:
            outcome = "fenced"
            log.warning("%s is left to the next leader: %s", key, error)
        except (Exception, asyncio.CancelledError):
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            outcome = "failed"
            delay = self._queue.back_off(key)
            log.exception("%s is tried again in %.1f s", key, delay)
        finally:
            metrics.RECONCILE_SECONDS.labels(outcome).observe(time.perf_counter() - began)
