"""A port for those who look after the process: is it alive, is it ready, what did it count.

Decides the three pages. Whether the process is ready is asked of whoever knows. Imports
aiohttp and prometheus_client.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

Check = Callable[[], str]
"""What is wrong, in a line; empty if nothing is."""


@contextlib.asynccontextmanager
async def serving(
    port: int,
    *,
    ready: Check,
    alive: Check = lambda: "",
    host: str = "0.0.0.0",
    registry: CollectorRegistry = REGISTRY,
) -> AsyncIterator[int]:
    """Answer ``/healthz``, ``/readyz`` and ``/metrics`` while the context lasts; the port.

    Port 0 takes a free one.
    """

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/healthz", _page(alive))
    application.router.add_get("/readyz", _page(ready))
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _page(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def page(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    return page
