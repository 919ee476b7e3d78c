"""How fast somebody else's operator makes what it makes of many objects that are there at once.

Decides what is asked for, what counts as made, and how it is told: without a goal, for orientation
beside the burst of FineTuneJobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benchmarks.api_server import Server
from benchmarks.audit import Asked, Made, made, percentile
from benchmarks.plain_client import at_once, plain
from benchmarks.table import Row
from tunefleet.kube.resources import Resource

_DEADLINE_SECONDS = 600.0


def taken_up(server: Server, of: Resource, bodies: list[str], namespace: str, what: str) -> Made:
    """Make objects of a kind in a new namespace, given as JSON; when each had its ``what``."""

    async def make_and_wait() -> list[Asked]:
        async with plain(server.bed) as client:
            await at_once(lambda body: client.post(of.path(namespace), body), bodies)
        return await server.log.until(
            lambda asked: sum(each.made(what) for each in asked) >= len(bodies),
            f"{len(bodies)} {what}",
            seconds=_DEADLINE_SECONDS,
        )

    server.namespace(namespace)
    server.log.new()
    asked = asyncio.run(make_and_wait())
    return made(asked + server.log.last(), namespace, of=of.plural, what=what)


def rows(title: str, found: Made, *, of: str, what: str, note: str) -> Iterator[Row]:
    """How many a second, and how long the slowest waited."""
    yield Row(f"{title}: {what}s", "/s", [found.per_second], note=f"for orientation; {note}")
    yield Row(
        f"{title}: {of} to {what}, p99",
        "s",
        [percentile(found.waits, 99)],
        better="lower",
        note=f"median {percentile(found.waits, 50):.1f} s",
    )
