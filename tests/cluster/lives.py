"""One job's life in a namespace, looked at step by step: what the tests of a controller share.

Decides nothing: the controller runs in the test's process, so that it can be killed between any
two of its steps; it comes back with nothing but what the server holds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.cluster.actors import Killed, MortalClient, Players, everything
from tests.testbed.clusters import Cluster
from tests.unit.controller.world import a_cluster_job
from tunefleet.controller.jobs.reconcile import Jobs
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, PREPARE_JOBS, RAY_JOBS
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Resource
from tunefleet.render.names import QUEUE_LABEL
from tunefleet.render.settings import Runtime

SETTINGS = Runtime(image="tunefleet-runtime:test")
FINAL = {"Succeeded", "Failed", "Stopped"}


class Life:
    """One namespace with its controller and its players."""

    def __init__(self, cluster: Cluster, namespace: str, client: MortalClient) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.client = client
        self.players = Players(client, namespace)
        self.deaths = 0
        self.later = timedelta()
        self._jobs: Jobs | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def apply(self, *, queue: str | None = None, **changes: object) -> None:
        values = a_cluster_job(**changes)
        if queue is not None:
            values["metadata"] = {"name": "reviews", "labels": {QUEUE_LABEL: queue}}
        await self.client.create(FINE_TUNE_JOBS, self.namespace, values)

    async def job(self) -> dict[str, Any]:
        return await self.client.get(FINE_TUNE_JOBS, self.namespace, "reviews")

    async def phase(self) -> str:
        return str((await self.job()).get("status", {}).get("phase"))

    async def says(self, words: str, *, looks: int = 40) -> None:
        """The controller looks until its message has these words."""
        for _ in range(looks):
            await self.look()
            told = str((await self.job()).get("status", {}).get("message"))
            if words in told:
                return
        raise AssertionError(told)

    async def look(self) -> None:
        """The controller looks at every job once; it may not survive that."""
        jobs = self._jobs or await self._start()
        # What was written by others has to arrive first: a second look would do as well.
        await asyncio.sleep(0.05)
        for key in list(jobs.keys()):
            try:
                await jobs.reconcile(key)
            except Killed:
                self.deaths += 1
                await self.kill()
                return
            except ApiError as error:
                if not error.conflict:
                    raise

    async def until(self, phases: set[str], *, play: bool = True, looks: int = 400) -> str:
        for _ in range(looks):
            await self.look()
            if play:
                await self.players.act()
            found = await self.phase()
            if found in phases:
                return found
            self.later += timedelta(seconds=2)
        raise AssertionError(json.dumps((await self.job()).get("status"), indent=1))

    async def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._jobs, self._tasks = None, []

    async def _start(self) -> Jobs:
        jobs = Jobs.of(
            self.client,
            SETTINGS,
            namespace=self.namespace,
            now=lambda: datetime.now(UTC) + self.later,
        )
        self._tasks = [asyncio.create_task(each.run()) for each in jobs.reflectors]
        async with asyncio.timeout(60):
            await asyncio.gather(*(each.synced.wait() for each in jobs.reflectors))
        self._jobs = jobs
        return jobs

    async def children(self, resource: Resource) -> list[dict[str, Any]]:
        return await everything(self.client, resource, self.namespace)

    async def essence(self) -> dict[str, object]:
        """The end state without times, uids and the names that are made of them."""
        job = await self.job()
        status = job["status"]
        uid = job["metadata"]["uid"][:5]
        objects = [
            (kind.kind, found["metadata"]["name"])
            for kind in (ATTEMPTS, PREPARE_JOBS, RAY_JOBS)
            for found in await self.children(kind)
        ]
        text = json.dumps(
            {
                "phase": status["phase"],
                "message": status["message"],
                "bundle": status["bundle"],
                "conditions": {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]},
                "attempts": [(a["name"], a["phase"], a.get("failure")) for a in status["attempts"]],
                "objects": sorted(objects),
            }
        )
        found = json.loads(text.replace(uid, "uid"))
        assert isinstance(found, dict)
        return found


@asynccontextmanager
async def a_life(cluster: Cluster) -> AsyncIterator[Life]:
    with cluster.namespace() as namespace:
        client = await MortalClient.connect(cluster.kubeconfig, writes_per_second=500, burst=500)
        async with client:
            client.count()
            life = Life(cluster, namespace, client)
            try:
                yield life
            finally:
                await life.kill()


def lived(cluster: Cluster, test: Callable[[Life], Any]) -> Any:
    async def main() -> Any:
        async with a_life(cluster) as life:
            return await test(life)

    return asyncio.run(main())
