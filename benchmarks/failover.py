"""How long jobs wait when the leading controller is killed: until the other one works on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from benchmarks.api_server import Server, served
from benchmarks.audit import Asked
from benchmarks.controller_process import controller
from benchmarks.lives import Replay, life
from benchmarks.plain_client import plain
from benchmarks.scale import Scale
from benchmarks.table import Row

ALLOWED_SECONDS = 20.0
_DEADLINE_SECONDS = 90.0
# The leader has renewed its Lease by then, and the other has filled its caches and seen it.
_SETTLE_SECONDS = 5.0


def measure(scale: Scale) -> Iterator[Row]:
    """One row: seconds from SIGKILL to the other's first write for a job of after the kill."""
    with served("failover") as server:
        if server is None:
            return
        seconds = []
        for number in range(scale.starts):
            # Killed at another moment of the Lease's round each time.
            time.sleep(0.7 * number)
            seconds.append(_killed(server, server.namespace(f"failover-{number}")))
    yield Row(
        "leader killed to the other's first write",
        "s",
        seconds,
        better="lower",
        limit=ALLOWED_SECONDS,
        note=f"the longest {max(seconds):.1f} s",
    )


def _killed(server: Server, namespace: str) -> float:
    job = Replay("after", namespace, {})

    async def apply_and_wait() -> list[Asked]:
        async with plain(server.bed) as client:
            await job.do(client, (life().job,))
        return await server.log.until(
            lambda asked: any(_works(each) for each in asked),
            "the other's first write",
            seconds=_DEADLINE_SECONDS,
        )

    def _works(asked: Asked) -> bool:
        ours = asked.wrote and asked.user == server.controller
        return ours and asked.namespace == namespace and asked.name.startswith(job.name)

    with controller(server) as first:
        first.wait_until_leading()
        with controller(server) as second:
            second.wait_until_ready()
            time.sleep(_SETTLE_SECONDS)
            server.log.new()
            killed = time.time()
            first.kill()
            asked = asyncio.run(apply_and_wait())
    return next(each.at for each in asked if _works(each)) - killed
