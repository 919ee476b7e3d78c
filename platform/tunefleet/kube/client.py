"""The API server's verbs, as JSON in and JSON out.

Decides how a request is paced, tried again (429, and nothing else), timed and counted, and
what its errors are. Knows no kind's fields but those that every object has. Imports aiohttp
and this package.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self

from tunefleet.kube import metrics
from tunefleet.kube.access import Access, Call, connect
from tunefleet.kube.errors import UNREACHABLE, ApiError, Fenced, from_response, from_status
from tunefleet.kube.events import EventKind, Recorder, Regarding
from tunefleet.kube.limits import TokenBucket
from tunefleet.kube.resources import EVENTS, PODS, Document, Manifest, Resource
from tunefleet.kube.scanning import NotJson, split_event, split_list

log = logging.getLogger("tunefleet.kube")

PAUSES_AT_MOST = 5
"""How often a request that is answered with 429 is sent again."""
LISTS_AT_MOST = 5
"""How often a list whose continue token expired is begun anew."""
FIRST_PAGE = 100
PAGE_BYTES = 2**20
"""What a page of a list should weigh: it is in memory twice while it is read, the next one
beside it, and so for every kind; what malloc once had for them stays with the process."""
SILENCE_SECONDS = 70.0
"""A watch that says nothing for longer is dead: bookmarks come about once a minute."""
WATCH_SECONDS = (300, 600)
LOG_BYTES = 64 * 1024


class EventType(StrEnum):
    """What a watch says happened."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class WatchEvent(NamedTuple):
    """One event of a watch: its object as JSON."""

    type: EventType
    body: bytes


class Page(NamedTuple):
    """Some objects of a list. A page of another resource version begins the list anew."""

    resource_version: str
    items: list[bytes]


class Client:
    """Requests to one API server.

    Writes go through a token bucket; once a fence is set (:meth:`fence`), none is sent while it
    is closed.
    """

    def __init__(
        self,
        access: Access,
        *,
        user_agent: str = "tunefleet",
        writes_per_second: float = 20.0,
        burst: float = 40.0,
    ) -> None:
        self._access = access
        self._bucket = TokenBucket(writes_per_second, burst)
        self._may_write: Callable[[], bool] = lambda: True
        self._recorder = Recorder(self.create, self.patch, controller=user_agent)

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        *,
        user_agent: str = "tunefleet",
        writes_per_second: float = 20.0,
        burst: float = 40.0,
    ) -> Self:
        """The cluster of this pod or, outside of one, of the kubeconfig.

        The user agent is whom the server takes for the owner of fields that are written without
        a manager, and who is named as an event's source.
        """
        access = await connect(kubeconfig, user_agent=user_agent)
        return cls(access, user_agent=user_agent, writes_per_second=writes_per_second, burst=burst)

    @property
    def server(self) -> str:
        """The API server's address."""
        return self._access.server

    @property
    def namespace(self) -> str:
        """The namespace that is meant where none is named."""
        return self._access.namespace

    def fence(self, may_write: Callable[[], bool]) -> None:
        """Ask ``may_write`` right before every write; where it says no, :class:`Fenced`."""
        self._may_write = may_write

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Write the last events and end every connection."""
        await self._recorder.flush()
        await self._access.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Document:
        """Read an object."""
        return await self.read("get", resource, Call("GET", resource.path(namespace, name), {}))

    async def create(self, resource: Resource, namespace: str | None, body: Manifest) -> Document:
        """Make an object; unknown fields are an error, not dropped."""
        path = resource.path(namespace)
        return await self.write(
            "create", resource, Call("POST", path, {"fieldValidation": "Strict"}, body)
        )

    async def apply(
        self, resource: Resource, namespace: str | None, name: str, body: Manifest, *, manager: str
    ) -> Document:
        """Make an object so, or make it anew: server-side apply, taking over contested fields."""
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        path = resource.path(namespace, name)
        call = Call("PATCH", path, query, body, content_type="application/apply-patch+yaml")
        return await self.write("apply", resource, call)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Manifest,
        *,
        sub: str | None = None,
    ) -> Document:
        """Merge into an object or a subresource; with a resourceVersion, only into that version."""
        path = resource.path(namespace, name, sub)
        call = Call("PATCH", path, {}, body, content_type="application/merge-patch+json")
        return await self.write("patch", resource, call)

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        """Have an object deleted. That it is gone, or that another took its name, is fine."""
        options: Document = {"propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        call = Call("DELETE", resource.path(namespace, name), {}, options)
        try:
            await self.write("delete", resource, call)
        except ApiError as error:
            if not (error.not_found or (uid is not None and error.conflict)):
                raise

    async def list_pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        limit: int = 500,
    ) -> AsyncGenerator[Page, None]:
        """Every object, page by page; how many fit into one is seen from the pages before.

        All pages of a list have the list's resource version. Where the server has forgotten
        that version on the way, the list begins anew with another one. The next page is on its
        way while one is looked at.
        """
        restarts = 0
        size = min(limit, FIRST_PAGE)
        more = ""
        asked = self._ask(resource, namespace, labels, size, more)
        try:
            while True:
                try:
                    body = await asked
                    version, following, items = split_list(body)
                except ApiError as error:
                    if not (error.gone and more) or restarts == LISTS_AT_MOST:
                        raise
                    restarts += 1
                    more = ""
                    asked = self._ask(resource, namespace, labels, size, more)
                    continue
                except NotJson as error:
                    raise ApiError(UNREACHABLE, "Unreachable", str(error)) from error
                if items:
                    size = max(1, min(limit, PAGE_BYTES * len(items) // len(body)))
                del body
                more = following
                if more:
                    asked = self._ask(resource, namespace, labels, size, more)
                yield Page(version, items)
                if not more:
                    return
        finally:
            asked.cancel()

    def _ask(
        self, resource: Resource, namespace: str | None, labels: str, size: int, more: str
    ) -> asyncio.Task[bytes]:
        """Have a page of a list on its way."""
        query = self._selection(labels) | {"limit": str(size)}
        if more:
            query["continue"] = more
        call = Call("GET", resource.path(namespace), query)
        asked = asyncio.create_task(self.fetch("list", resource, call))
        # Of a page that nobody waits for any more, no error is told.
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asked

    async def newest(self, resource: Resource, namespace: str | None, *, labels: str = "") -> str:
        """The resource version that a list would have now."""
        body = await self._ask(resource, namespace, labels, 1, "")
        try:
            return split_list(body).resource_version
        except NotJson as error:
            raise ApiError(UNREACHABLE, "Unreachable", str(error)) from error

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happens after a resource version, bookmarks too, until the server ends the watch.

        A version too old is an :class:`ApiError` that is ``gone``, whether the server says so
        with its status or in the middle of the stream.
        """
        query = self._selection(labels) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            # Spread, so that watches that began together do not end together.
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),
        }
        path = resource.path(namespace)
        call = Call("GET", path, query, seconds=None, silence=SILENCE_SECONDS)
        async with self._access.call(call) as response:
            metrics.REQUESTS.labels("watch", resource.plural, response.status).inc()
            if response.status != 200:
                after = response.headers.get("Retry-After")
                raise from_response(response.status, await response.read(), after)
            rest = b""
            async for chunk in response.content.iter_any():
                # Lines are split here: an event may be longer than any buffer's limit.
                *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
                for line in lines:
                    if line:
                        yield _event(line)

    async def pod_log(
        self, namespace: str, pod: str, container: str, *, tail_lines: int, previous: bool = False
    ) -> str:
        """The last lines that a container wrote; with ``previous``, the one that it replaced."""
        query = {
            "container": container,
            "tailLines": str(tail_lines),
            "limitBytes": str(LOG_BYTES),
            "previous": str(previous).lower(),
        }
        call = Call("GET", PODS.path(namespace, pod, "log"), query, accept="text/plain, */*")
        return (await self.fetch("log", PODS, call)).decode(errors="replace")

    async def log_lines(
        self, namespace: str, pod: str, container: str, *, follow: bool = False
    ) -> AsyncGenerator[str, None]:
        """All lines that a container wrote and, with ``follow``, those it writes until it ends."""
        query = {"container": container, "follow": str(follow).lower()}
        path = PODS.path(namespace, pod, "log")
        call = Call("GET", path, query, accept="text/plain, */*", seconds=None)
        async with self._access.call(call) as response:
            metrics.REQUESTS.labels("log", PODS.plural, response.status).inc()
            # (204: the pod has no node yet, and so no log.)
            if response.status >= 400:
                raise from_response(response.status, await response.read())
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if rest:
                yield rest.decode(errors="replace")

    async def event(
        self, regarding: Regarding, *, kind: EventKind, reason: str, action: str, note: str
    ) -> None:
        """Tell users what happened to an object. Never raises, and waits for nothing."""
        self._recorder.say(regarding, kind=kind, reason=reason, action=action, note=note)

    async def read(self, verb: str, resource: Resource, call: Call) -> Document:
        """Send a request that changes nothing; its answer as JSON."""
        return _document(await self.fetch(verb, resource, call))

    async def write(self, verb: str, resource: Resource, call: Call) -> Document:
        """Send a write when its turn comes, unless the fence is closed by then."""
        metrics.WRITE_WAIT_SECONDS.inc(await self._bucket.take())
        # An event changes nothing, and the last are written after leadership was given up.
        return _document(await self.fetch(verb, resource, call, fenced=resource != EVENTS))

    async def fetch(
        self, verb: str, resource: Resource, call: Call, *, fenced: bool = False
    ) -> bytes:
        """Send a request, again after the pause that the server asks for; the answer's bytes."""
        for pauses in range(PAUSES_AT_MOST + 1):
            if fenced and not self._may_write():
                raise Fenced(f"{verb} {call.path} was not sent: this process no longer leads")
            try:
                return await self._once(verb, resource, call)
            except ApiError as error:
                if not error.too_many_requests or pauses == PAUSES_AT_MOST:
                    raise
                pause = error.retry_after if error.retry_after is not None else 1.0
                log.warning("the API server asks for a pause of %.0f s: %s", pause, error.message)
                await asyncio.sleep(pause * random.uniform(1.0, 1.5))
        raise AssertionError("unreachable")

    async def _once(self, verb: str, resource: Resource, call: Call) -> bytes:
        began = time.perf_counter()
        status = UNREACHABLE
        try:
            async with self._access.call(call) as response:
                body = await response.read()
                status = response.status
            if status >= 400:
                raise from_response(status, body, response.headers.get("Retry-After"))
            return body
        finally:
            metrics.REQUESTS.labels(verb, resource.plural, status).inc()
            metrics.REQUEST_SECONDS.labels(verb).observe(time.perf_counter() - began)

    @staticmethod
    def _selection(labels: str) -> dict[str, str]:
        return {"labelSelector": labels} if labels else {}


def _document(body: bytes) -> Document:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        start = body[:80]
        raise ApiError(UNREACHABLE, "Unreachable", f"the answer is not a JSON object: {start!r}")
    return said


def _event(line: bytes) -> WatchEvent:
    try:
        kind, body = split_event(line)
        if kind == "ERROR":
            raise from_status(json.loads(body))
        return WatchEvent(EventType(kind), body)
    except ValueError as error:  # NotJson, and types of event that nobody knows
        raise ApiError(UNREACHABLE, "Unreachable", str(error)) from error
