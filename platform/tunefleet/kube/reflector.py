"""Keeps a cache of one kind true: list, then watch, then list again where the watch cannot go on.

Decides what a lost connection, a silence, a forgotten or a restored history of the server mean
for what is cached, and tells every change as *old* and *new* projection. Imports this package
and pydantic, for the errors of projections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import ValidationError

from tunefleet.kube import metrics
from tunefleet.kube.cache import Cache, Cached, Name
from tunefleet.kube.client import SILENCE_SECONDS, Client, EventType, WatchEvent
from tunefleet.kube.errors import UNREACHABLE, ApiError
from tunefleet.kube.resources import Resource
from tunefleet.kube.scanning import Head, NotJson, head_of

log = logging.getLogger("tunefleet.kube")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 5.0
"""A watch that lived for as long was a good one: the next is opened without a pause."""

T = TypeVar("T", bound=Cached)


class Why(StrEnum):
    """What made a full list necessary."""

    START = "start"
    GONE = "gone"
    WENT_BACK = "went-back"
    ABSENT = "absent"


def _head(body: bytes) -> Head:
    try:
        return head_of(body)
    except NotJson as error:
        raise ApiError(UNREACHABLE, "Unreadable", str(error)) from error


class _ListAgain(Exception):
    def __init__(self, why: Why, said: str) -> None:
        self.why = why
        super().__init__(said)


class Reflector(Generic[T]):
    """One kind's cache and the task that keeps it true.

    ``changed`` is called with what was known before and what is known now: with ``None`` as old
    for an object that is new, as new for one that is gone. An object that was deleted and made
    again between two looks is one change, whose two sides have different uids.
    ``may_be_absent`` is for kinds of somebody else's: a cluster that does not have the kind
    counts as one without such objects, and :attr:`served` tells. ``or_else`` is the same kind
    under other versions, for a cluster that does not have it under this one.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        project: Callable[[bytes], T],
        *,
        namespace: str | None = None,
        labels: str = "",
        changed: Callable[[T | None, T | None], None] = lambda old, new: None,
        may_be_absent: bool = False,
        or_else: Sequence[Resource] = (),
    ) -> None:
        self.resource = resource
        self.cache: Cache[T] = Cache()
        self.served = True
        self._versions = (resource, *or_else)
        self._client = client
        self._project = project
        self._namespace = namespace
        self._labels = labels
        self._changed = changed
        self._may_be_absent = may_be_absent
        self._version = ""
        self._pause = 0.0
        self._trouble = ""
        self._heard = time.monotonic()

    @property
    def synced(self) -> asyncio.Event:
        """Set once the first list was read to its end."""
        return self.cache.synced

    @property
    def trouble(self) -> str:
        """What keeps the cache from being true now; empty while nothing does."""
        return self._trouble

    @property
    def true(self) -> bool:
        """Whether what is not in the cache can be taken for not being there."""
        return not self._trouble and self.silent_seconds < SILENCE_SECONDS

    @property
    def silent_seconds(self) -> float:
        """How long ago the server was last heard of."""
        return time.monotonic() - self._heard

    async def run(self) -> None:
        """Keep the cache true until cancelled."""
        why: Why | None = Why.START
        while True:
            began = time.monotonic()
            try:
                if why is not None:
                    await self._list(why)
                    why = None
                    self._well()
                else:
                    await self._look_for_a_step_back()
                await self._watch()
                if time.monotonic() - began >= STEADY_SECONDS:
                    self._pause = 0.0
            except _ListAgain as again:
                log.info("%s are listed again: %s", self.resource.plural, again)
                why = again.why
            except ApiError as error:
                why = self._after(error, why, time.monotonic() - began)
            await self._rest()

    def _after(self, error: ApiError, why: Why | None, lived: float) -> Why | None:
        """What to do after an error: the reason to list, or None to watch on."""
        if error.gone:
            return Why.GONE
        if error.not_found and self._may_be_absent:
            self._absent()
            return Why.ABSENT
        if error.unreachable and why is None and lived >= STEADY_SECONDS:
            # A silence or a cut: everyday, and mended by watching on.
            log.debug("the watch of %s ended: %s", self.resource.plural, error)
            self._pause = 0.0
            return None
        self._trouble = f"{self.resource.plural}: {error}"
        self._pause = max(self._pause, FIRST_PAUSE)
        log.warning("%s cannot be followed: %s", self.resource.plural, error)
        # A server that does not know the kind has no history of it to watch.
        return Why.GONE if error.not_found else why

    async def _rest(self) -> None:
        if self._pause:
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)

    def _well(self) -> None:
        self._trouble = ""
        self._heard = time.monotonic()

    async def _list(self, why: Why) -> None:
        metrics.LISTS.labels(self.resource.plural, why.value).inc()
        seen: set[Name] = set()
        version = None
        pages = self._client.list_pages(self.resource, self._namespace, labels=self._labels)
        async with contextlib.aclosing(pages):
            async for page in pages:
                if page.resource_version != version:
                    version = page.resource_version
                    seen.clear()
                for body in page.items:
                    seen.add(self._take(body))
                # A page keeps the loop busy for some 20 ms: others get their turn in between.
                await asyncio.sleep(0)
        for name in self.cache:
            if name not in seen:
                self._forget(name)
        self._version = version or ""
        self.served = True
        self._synced()

    def _absent(self) -> None:
        self._well()
        following = self._versions.index(self.resource) + 1
        self.resource = self._versions[following % len(self._versions)]
        if following < len(self._versions):
            return
        self.served = False
        for name in self.cache:
            self._forget(name)
        self._synced()

    def _synced(self) -> None:
        metrics.CACHED.labels(self.resource.plural).set(len(self.cache))
        self.cache.synced.set()

    async def _look_for_a_step_back(self) -> None:
        """Compare our place in history with the server's newest.

        A server whose store was restored to an earlier state accepts a watch from its future
        and then says nothing until it gets there, bookmarks included.
        """
        self._follows(
            await self._client.newest(self.resource, self._namespace, labels=self._labels)
        )
        self._well()

    def _follows(self, version: str) -> None:
        if version.isdecimal() and self._version.isdecimal() and int(version) < int(self._version):
            said = f"the server is at version {version}, we were at {self._version}"
            raise _ListAgain(Why.WENT_BACK, said)

    async def _watch(self) -> None:
        events = self._client.watch(
            self.resource,
            self._namespace,
            labels=self._labels,
            resource_version=self._version,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                self._apply(event)
                self._well()
                self._pause = 0.0

    def _apply(self, event: WatchEvent) -> None:
        head = _head(event.body)
        self._follows(head.resource_version)
        metrics.WATCH_EVENTS.labels(self.resource.plural, event.type.value).inc()
        if event.type is EventType.DELETED:
            self._forget(Name(head.namespace, head.name))
        elif event.type is not EventType.BOOKMARK:
            self._take(event.body)
        metrics.CACHED.labels(self.resource.plural).set(len(self.cache))
        # Only now: an event that could not be applied is asked for again.
        self._version = head.resource_version

    def _take(self, body: bytes) -> Name:
        try:
            item = self._project(body)
        except ValidationError as error:
            return self._unreadable(body, error)
        name = Name(item.namespace, item.name)
        if not self.cache.holds(item):
            self._tell(self.cache.put(item), item)
        return name

    def _unreadable(self, body: bytes, error: ValidationError) -> Name:
        """Keep what is known of an object that cannot be read: that it is there is known."""
        head = _head(body)
        metrics.UNREADABLE.labels(self.resource.plural).inc()
        where = f"{head.namespace}/{head.name}" if head.namespace else head.name
        log.error(
            "%s %s cannot be read; what was known of it before is kept: %s",
            self.resource.kind,
            where,
            error,
        )
        return Name(head.namespace, head.name)

    def _forget(self, name: Name) -> None:
        old = self.cache.drop(name)
        if old is not None:
            self._tell(old, None)

    def _tell(self, old: T | None, new: T | None) -> None:
        try:
            self._changed(old, new)
        except Exception:
            # The cache stays true; the regular resync makes up for what was not told.
            log.exception("a change of %s could not be told", self.resource.plural)
