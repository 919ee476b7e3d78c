"""The plainest client of an API server: JSON over a few kept connections, and nothing else.

Decides nothing: no pace, no retries, no caches. It is the peer of the controller's writes, and
the hand that fills a server. Imports aiohttp.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp

from tests.testbed.bed import API_PORT, Bed
from tunefleet.kube.scanning import split_list

CONNECTIONS = 16
"""As many as the controller has workers."""

T = TypeVar("T")


class Refused(RuntimeError):
    """The server did not do what it was asked for."""


class Plain:
    """The server with an administrator's rights."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(self, path: str, body: str) -> str:
        """Make an object; its uid."""
        return str(json.loads(await self._send("POST", path, body, "json"))["metadata"]["uid"])

    async def patch(self, path: str, body: str) -> None:
        """Merge into an object or a subresource."""
        json.loads(await self._send("PATCH", path, body, "merge-patch+json"))

    async def read_all(self, path: str, *, page: int) -> int:
        """Read a list page by page, and make nothing of it; its bytes."""
        read, more = 0, ""
        while True:
            query = {"limit": str(page)} | ({"continue": more} if more else {})
            async with self._session.get(path, params=query) as reply:
                said = await reply.read()
                if reply.status >= 300:
                    raise Refused(f"GET {path}: {reply.status} {said[:500]!r}")
            read += len(said)
            more = split_list(said).more
            if not more:
                return read

    async def _send(self, method: str, path: str, body: str, kind: str) -> bytes:
        headers = {"Content-Type": f"application/{kind}"}
        async with self._session.request(
            method, path, data=body.encode(), headers=headers
        ) as reply:
            said = await reply.read()
            if reply.status >= 300:
                raise Refused(f"{method} {path}: {reply.status} {said[:500]!r}")
            return said


@asynccontextmanager
async def plain(bed: Bed, *, connections: int = CONNECTIONS) -> AsyncIterator[Plain]:
    """A client of a bed's server, from inside its network."""
    trust = ssl.create_default_context(cafile=bed.keys / "ca.crt")
    trust.load_cert_chain(bed.keys / "admin.crt", bed.keys / "admin.key")
    connector = aiohttp.TCPConnector(limit=connections, ssl=trust)
    async with aiohttp.ClientSession(
        f"https://127.0.0.1:{API_PORT}",
        connector=connector,
        # Nor is anything compressed, which would cost both ends more than this network does.
        headers={"User-Agent": "benchmark", "Accept-Encoding": "identity"},
        trust_env=False,
    ) as session:
        yield Plain(session)


async def at_once(
    work: Callable[[T], Awaitable[object]], items: Iterable[T], *, workers: int = CONNECTIONS
) -> None:
    """Do something for every item, in their order, by as many workers."""
    waiting = iter(items)

    async def one() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(one())
