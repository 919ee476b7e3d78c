"""What users read in ``kubectl events``: said once, counted when it is said again.

Decides what is the same event, how often one object may be spoken of, and that nobody ever
waits for an event or fails because of one. Imports this package.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Literal, TypeVar

from tunefleet.kube import metrics
from tunefleet.kube.errors import ApiError, Fenced
from tunefleet.kube.limits import TokenBucket
from tunefleet.kube.resources import EVENTS, Document, Manifest, Resource

log = logging.getLogger("tunefleet.kube")

SERIES_SECONDS = 360.0
"""An event that is said again within this time is one more of its series."""
COUNT_SECONDS = 60.0
"""How often a series' count is written at most."""
OBJECT_BURST = 25
OBJECT_RATE = 1 / 60
"""How many events one object may have at once, and how many a second in the long run."""
PENDING_AT_MOST = 200
REMEMBERED_AT_MOST = 4096
NOTE_BYTES = 1024

_K = TypeVar("_K")
_V = TypeVar("_V")

EventKind = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    resource: Resource
    namespace: str
    name: str
    uid: str

    def reference(self) -> Document:
        """The object as an event's field."""
        where: Document = {"namespace": self.namespace} if self.namespace else {}
        return where | {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "name": self.name,
            "uid": self.uid,
        }


@dataclass(frozen=True, slots=True)
class _Said:
    regarding: Regarding
    kind: EventKind
    reason: str
    action: str
    note: str


@dataclass(slots=True)
class _Series:
    """What was written of one event. ``name`` is None while its writing is under way."""

    first: datetime
    last: float
    name: str | None = None
    count: int = 1
    counted: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Recorder:
    """Writes events in the background, by the two writes that it is given."""

    create: Callable[[Resource, str, Manifest], Awaitable[Document]]
    patch: Callable[[Resource, str, str, Manifest], Awaitable[Document]]
    controller: str
    _series: dict[_Said, _Series] = field(default_factory=dict)
    _buckets: dict[str, TokenBucket] = field(default_factory=dict)
    _writing: set[asyncio.Task[None]] = field(default_factory=set)

    def say(
        self, regarding: Regarding, *, kind: EventKind, reason: str, action: str, note: str
    ) -> None:
        """Say that something happened to an object; returns at once, and never raises."""
        note = note.encode()[:NOTE_BYTES].decode(errors="ignore")
        said = _Said(regarding, kind, reason, action, note)
        loop = asyncio.get_running_loop()
        series = self._series.get(said)
        if series is not None and loop.time() - series.last < SERIES_SECONDS:
            series.last = loop.time()
            series.count += 1
            if series.counted is None:
                series.counted = loop.call_later(COUNT_SECONDS, self._count, said, series)
            return
        if not self._bucket(regarding.uid).take_now():
            metrics.EVENTS_DROPPED.labels("too many of one object").inc()
            return
        _make_room(self._series)
        series = self._series[said] = _Series(datetime.now(UTC), loop.time())
        self._write(partial(self._first, said, series))

    async def flush(self) -> None:
        """Write what is still to be counted, and wait for all writes."""
        await self._written()
        for said, series in list(self._series.items()):
            if series.counted is not None:
                series.counted.cancel()
                self._count(said, series)
        await self._written()

    async def _written(self) -> None:
        while self._writing:
            await asyncio.wait(set(self._writing))

    def _bucket(self, uid: str) -> TokenBucket:
        if uid not in self._buckets:
            _make_room(self._buckets)
            self._buckets[uid] = TokenBucket(OBJECT_RATE, OBJECT_BURST)
        return self._buckets[uid]

    def _write(self, write: Callable[[], Awaitable[object]]) -> None:
        if len(self._writing) >= PENDING_AT_MOST:
            metrics.EVENTS_DROPPED.labels("too many waiting").inc()
            return
        task = asyncio.create_task(self._quietly(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _quietly(self, write: Callable[[], Awaitable[object]]) -> None:
        try:
            await write()
        except (ApiError, Fenced) as error:
            metrics.EVENTS_DROPPED.labels("refused").inc()
            log.warning("an event was not written: %s", error)

    async def _first(self, said: _Said, series: _Series) -> None:
        namespace = said.regarding.namespace or "default"
        nanoseconds = int(series.first.timestamp() * 1e9)
        name = f"{said.regarding.name[:200]}.{nanoseconds:x}"
        body: Document = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": _micro_time(series.first),
            "type": said.kind,
            "reason": said.reason,
            "action": said.action,
            "note": said.note,
            "regarding": said.regarding.reference(),
            "reportingController": self.controller,
            "reportingInstance": socket.gethostname()[:128],
        }
        await self.create(EVENTS, namespace, body)
        series.name = name

    def _count(self, said: _Said, series: _Series) -> None:
        series.counted = None
        if series.name is None:  # the first of it was refused: there is nothing to count on
            self._series.pop(said, None)
            return
        last = {"count": series.count, "lastObservedTime": _micro_time(datetime.now(UTC))}
        namespace = said.regarding.namespace or "default"
        self._write(partial(self.patch, EVENTS, namespace, series.name, {"series": last}))


def _micro_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _make_room(remembered: dict[_K, _V]) -> None:
    """Forget the oldest: what is forgotten is at worst said twice."""
    if len(remembered) >= REMEMBERED_AT_MOST:
        del remembered[next(iter(remembered))]
