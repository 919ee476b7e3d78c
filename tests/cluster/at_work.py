"""The whole controller in a test: its caches, its queue and its workers.

Decides nothing; what it wrote, and where, is kept. That of all namespaces is for servers that a
test has to itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.cluster.actors import MortalClient
from tests.cluster.lives import SETTINGS
from tests.testbed.clusters import Cluster
from tunefleet.controller.jobs.reconcile import Jobs
from tunefleet.controller.kinds import FINE_TUNE_JOBS
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Resource
from tunefleet.kube.runtime import Runtime


class Watched(MortalClient):
    """A client that keeps where it wrote."""

    paths: list[str]

    async def write(self, verb: str, resource: Resource, call: Any) -> dict[str, object]:
        self.paths.append(f"{verb} {call.path}")
        return await super().write(verb, resource, call)


@asynccontextmanager
async def at_work(
    cluster: Cluster, namespace: str | None = None, *, by: type[Watched] = Watched
) -> AsyncIterator[Watched]:
    """The controller, of one namespace or of all; its client."""
    async with await by.connect(cluster.kubeconfig) as client:
        client.count()
        client.paths = []
        jobs = Jobs.of(client, SETTINGS, namespace=namespace)
        runtime = Runtime(jobs.reflectors, jobs.queue, jobs.reconcile, keys=jobs.keys, workers=4)
        stop = asyncio.Event()
        task = asyncio.create_task(runtime.run(stop))
        try:
            yield client
        finally:
            stop.set()
            await task


async def until(
    true: Callable[[], Awaitable[bool]],
    *,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    seconds: float = 120,
) -> None:
    """Wait until something holds; a server that is away counts as no."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(ApiError):
            if meanwhile is not None:
                await meanwhile()
            if await true():
                return
        assert time.monotonic() < deadline, "nothing happened"
        await asyncio.sleep(0.2)


async def job_of(client: MortalClient, namespace: str) -> dict[str, Any] | None:
    """The namespace's job, if it has one."""
    try:
        return await client.get(FINE_TUNE_JOBS, namespace, "reviews")
    except ApiError as error:
        if error.not_found:
            return None
        raise


async def is_in(client: MortalClient, namespace: str, phase: str) -> bool:
    """Whether the namespace's job is in a phase."""
    found = await job_of(client, namespace)
    return found is not None and found.get("status", {}).get("phase") == phase
