"""An API server of a few objects that can be made to behave as a real one does on its bad days."""

from __future__ import annotations

import asyncio
import copy
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web
from kubernetes.aio.client import Configuration

from tunefleet.kube.access import Access, Call
from tunefleet.kube.client import Client
from tunefleet.kube.errors import from_response
from tunefleet.kube.resources import Resource

THINGS = Resource("test.dev", "v1", "things", "Thing")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is given instead of the right one."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(slots=True)
class _Watch:
    collection: str
    namespace: str | None
    after: int
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    request: web.Request | None = None


def status(code: int, reason: str, message: str = "", **details: object) -> Object:
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


class FakeServer:
    """Objects of any kind by path, a history to watch, and switches for trouble."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[tuple[str, str], Object]] = {}
        self.history: list[tuple[int, str, str, Object]] = []
        self.requests: list[Request] = []
        self.answers: deque[Answer] = deque()
        """Given to the next requests other than watches, instead of the right answers."""
        self.seconds = 0.0
        """How long an answer takes, where a client asks without a network."""
        self.on_request: Callable[[Request], None] = lambda request: None
        self.oldest = 0
        """Versions before it are forgotten: 410."""
        self.gone_in_stream = False
        self.silent = False
        """Watches are opened and never say anything."""
        self.absent: set[str] = set()
        """Kinds, and versions of a group (``group/version``), that the server does not know."""
        self.url = ""
        self._watches: list[_Watch] = []
        self._pages: dict[str, list[Object]] = {}
        self._uids = 0

    # -- what a test does to it ---------------------------------------------------------

    def put(
        self, name: str, namespace: str = "n", collection: str = "things", **fields: Any
    ) -> Object:
        old = self._kept(collection).get((namespace, name))
        self.version += 1
        self._uids += old is None
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": old["metadata"]["uid"] if old else f"uid-{self._uids}",
            "resourceVersion": str(self.version),
        }
        made = {**copy.deepcopy(fields), "metadata": fields.get("metadata", {}) | metadata}
        self._kept(collection)[namespace, name] = made
        self._happened(collection, "MODIFIED" if old else "ADDED", made)
        return made

    def drop(self, name: str, namespace: str = "n", collection: str = "things") -> None:
        gone = copy.deepcopy(self._kept(collection).pop((namespace, name)))
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._happened(collection, "DELETED", gone)

    def say(self, line: object) -> None:
        """Send a line to every open watch."""
        for watch in self._watches:
            watch.queue.put_nowait(_line(line))

    def bookmark(self) -> None:
        metadata = {"resourceVersion": str(self.version)}
        self.say({"type": "BOOKMARK", "object": {"kind": "Thing", "metadata": metadata}})

    def end_watches(self) -> None:
        """As a server does when a watch's time is up."""
        for watch in self._watches:
            watch.queue.put_nowait(None)

    def cut_watches(self) -> None:
        """As a network does."""
        for watch in self._watches:
            if watch.request is not None and watch.request.transport is not None:
                watch.request.transport.abort()

    def forget_history(self) -> None:
        self.history.clear()
        self.oldest = self.version + 1
        self.version += 1

    def snapshot(self) -> tuple[int, dict[str, dict[tuple[str, str], Object]]]:
        return self.version, copy.deepcopy(self.objects)

    def restore(self, taken: tuple[int, dict[str, dict[tuple[str, str], Object]]]) -> None:
        """As after etcd was restored: earlier objects, an earlier version, no connection left."""
        self.version, self.objects = taken[0], copy.deepcopy(taken[1])
        self.history = [entry for entry in self.history if entry[0] <= self.version]
        self.cut_watches()

    def asked(self, method: str, *, watch: bool = False, plural: str = "things") -> list[Request]:
        return [
            request
            for request in self.requests
            if request.method == method
            and f"/{plural}" in request.path
            and ("watch" in request.query) is watch
        ]

    @property
    def watching(self) -> int:
        return len(self._watches)

    # -- what it answers ----------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        asked = Request(
            request.method, request.path, dict(request.query), dict(request.headers), body
        )
        if "watch" in asked.query and (stream := await self._watch(request, asked)):
            return stream
        answer = self.answer(asked)
        return web.Response(status=answer.status, body=answer.raw, headers=answer.headers)

    def answer(self, asked: Request) -> Answer:
        """The answer to whatever is no watch."""
        self.requests.append(asked)
        self.on_request(asked)
        if self.answers:
            return self.answers.popleft()
        namespace, collection, name, sub = _parts(asked.path)
        if self._lacks(asked.path, collection):
            return Answer(404, status(404, "NotFound", "could not find the requested resource"))
        if "watch" in asked.query:
            return Answer(410, status(410, "Expired", "too old resource version"))
        if sub == "log":
            return Answer(200, b"first line\nlast line\n")
        return Answer(*self._answer(asked, collection, namespace, name))

    def _answer(
        self, asked: Request, collection: str, namespace: str | None, name: str | None
    ) -> tuple[int, Object]:
        kept = self._kept(collection)
        if name is None:
            if asked.method == "GET":
                return self._list(asked, collection, namespace)
            name = str(asked.body["metadata"]["name"])
            if (namespace or "", name) in kept:
                return 409, status(409, "AlreadyExists", f"{name} already exists")
            return 201, self.put(name, namespace or "", collection, **asked.body)
        found = kept.get((namespace or "", name))
        if found is None:
            return 404, status(404, "NotFound", f"{name} not found")
        if asked.method == "GET":
            return 200, found
        if asked.method == "DELETE":
            uid = (asked.body or {}).get("preconditions", {}).get("uid")
            if uid not in {None, found["metadata"]["uid"]}:
                return 409, status(409, "Conflict", "the UID in the precondition differs")
            self.drop(name, namespace or "", collection)
            return 200, {"kind": "Status", "status": "Success"}
        version = asked.body.get("metadata", {}).get("resourceVersion")
        if version not in {None, found["metadata"]["resourceVersion"]}:
            return 409, status(409, "Conflict", "the object has been modified")
        return 200, self.put(name, namespace or "", collection, **_merged(found, asked.body))

    def _list(self, asked: Request, collection: str, namespace: str | None) -> tuple[int, Object]:
        limit = int(asked.query.get("limit", "0")) or 10**9
        version, start = str(self.version), 0
        if token := asked.query.get("continue"):
            version, offset = token.split(":")
            start = int(offset)
            if int(version) < self.oldest:
                said = status(410, "Expired", "The provided continue parameter is too old")
                return 410, said
        else:
            every = self._kept(collection)
            items = [every[key] for key in sorted(every) if namespace in {None, key[0]}]
            self._pages[version] = copy.deepcopy(items)
        items = self._pages[version]
        metadata = {"resourceVersion": version}
        if start + limit < len(items):
            metadata["continue"] = f"{version}:{start + limit}"
        return 200, {
            "kind": "List",
            "items": items[start : start + limit] or None,
            "metadata": metadata,
        }

    async def _watch(self, request: web.Request, asked: Request) -> web.StreamResponse | None:
        """The stream of a watch, unless its answer is an error."""
        namespace, collection, _, _ = _parts(asked.path)
        after = int(asked.query["resourceVersion"])
        if self._lacks(asked.path, collection) or (after < self.oldest and not self.gone_in_stream):
            return None
        self.requests.append(asked)
        gone = status(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if after < self.oldest:
            await response.write(_line({"type": "ERROR", "object": gone}))
            return response
        watch = _Watch(collection, namespace, after, request=request)
        self._watches.append(watch)
        try:
            for version, where, kind, what in self.history:
                if where == collection and version > after and not self.silent:
                    watch.queue.put_nowait(_line({"type": kind, "object": what}))
            while (line := await watch.queue.get()) is not None:
                # In two parts, as the network may deliver it.
                await response.write(line[: len(line) // 2])
                await response.write(line[len(line) // 2 :])
        finally:
            self._watches.remove(watch)
        return response

    def _lacks(self, path: str, collection: str) -> bool:
        return collection in self.absent or "/".join(path.split("/")[2:4]) in self.absent

    def _happened(self, collection: str, kind: str, what: Object) -> None:
        self.history.append((self.version, collection, kind, copy.deepcopy(what)))
        if self.silent:
            return
        for watch in self._watches:
            inside = watch.namespace in {None, what["metadata"]["namespace"]}
            if watch.collection == collection and self.version > watch.after and inside:
                watch.queue.put_nowait(_line({"type": kind, "object": what}))

    def _kept(self, collection: str) -> dict[tuple[str, str], Object]:
        return self.objects.setdefault(collection, {})


def _line(said: object) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _parts(path: str) -> tuple[str | None, str, str | None, str | None]:
    rest = path.split("/")[3:] if path.startswith("/api/") else path.split("/")[4:]
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    collection, name, sub = [*rest, None, None][:3]
    return namespace, str(collection), name, sub


def _merged(old: Object, patch: Object) -> Object:
    made = dict(old)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key] = _merged(made[key], value)
        else:
            made[key] = value
    return made


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """A server on a free port of this machine."""
    server = FakeServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.end_watches()
        await runner.cleanup()


async def _no_renewal() -> None:
    pass


@asynccontextmanager
async def client_of(
    server: FakeServer, *, writes_per_second: float = 1000.0, burst: float = 1000.0
) -> AsyncIterator[Client]:
    """A client of that server, with a token."""
    configuration = Configuration(host=server.url, api_key={"BearerToken": "Bearer secret"})
    access = Access(configuration, _no_renewal, user_agent="tests")
    async with Client(
        access, user_agent="tests", writes_per_second=writes_per_second, burst=burst
    ) as client:
        yield client


class DirectClient(Client):
    """A client that asks without a network, and so on any clock."""

    def __init__(self, server: FakeServer, *, writes_per_second: float = 1e6) -> None:
        super().__init__(
            cast(Access, None), user_agent="tests", writes_per_second=writes_per_second, burst=1
        )
        self._fake = server

    async def _once(self, verb: str, resource: Resource, call: Call) -> bytes:
        await asyncio.sleep(self._fake.seconds)
        asked = Request(call.method, call.path, dict(call.query), {}, call.body)
        answer = self._fake.answer(asked)
        if answer.status >= 400:
            raise from_response(answer.status, answer.raw, answer.headers.get("Retry-After"))
        return answer.raw


async def until(true: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)
