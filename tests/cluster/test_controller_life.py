"""A job's life on a real API server: killed around every write, edited, deleted, taken over.

The controller runs in this process, so that it can be killed between any two of its steps; it
comes back with nothing but what the server holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from docs.reference.generate import CRDS
from tests.cluster.actors import Killed, MortalClient, Players
from tests.cluster.kueue import CROWDED, OUTRANKED, Kueue, installed
from tests.testbed.clusters import Cluster
from tests.unit.controller.world import a_cluster_job
from tunefleet.controller.jobs.reconcile import Jobs
from tunefleet.controller.kinds import (
    ATTEMPTS,
    FINE_TUNE_JOBS,
    OLDER_WORKLOADS,
    PREPARE_JOBS,
    RAY_JOBS,
    WORKLOADS,
)
from tunefleet.kube.errors import ApiError
from tunefleet.kube.resources import Resource
from tunefleet.render.names import QUEUE_LABEL
from tunefleet.render.settings import Runtime

SETTINGS = Runtime(image="tunefleet-runtime:test")
FINAL = {"Succeeded", "Failed", "Stopped"}


@pytest.fixture(scope="module", autouse=True)
def definitions(kuberay: Cluster) -> None:
    kuberay.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kuberay.kubectl("wait", "--for=condition=Established", "-f", str(CRDS))


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

    async def children(self, resource: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async for page in self.client.list_pages(resource, self.namespace):
            found += [json.loads(item) for item in page.items]
        return found

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


async def to_its_end(life: Life) -> dict[str, object]:
    await life.apply()
    assert await life.until(FINAL) == "Succeeded"
    return await life.essence()


@pytest.fixture(scope="module")
def undisturbed(kuberay: Cluster) -> Iterator[dict[str, object]]:
    yield lived(kuberay, to_its_end)


def test_the_controller_writes_no_more_than_twelve_times_in_a_jobs_life(kuberay: Cluster) -> None:
    async def test(life: Life) -> None:
        await life.apply()
        # The players write through a client of their own, which is not counted.
        async with await MortalClient.connect(kuberay.kubeconfig) as other:
            other.count()
            life.players = Players(other, life.namespace)
            life.client.count()
            assert await life.until(FINAL) == "Succeeded"
        told = [write for write in life.client.writes if write == "patch FineTuneJob"]
        progress = 3  # what the players told of it, each in a status of its own
        assert len(life.client.writes) - progress <= 12, life.client.writes
        assert len(told) <= 8 + progress

    lived(kuberay, test)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", range(14))
def test_killed_around_a_write_the_end_is_the_same(
    kuberay: Cluster, undisturbed: dict[str, object], write: int, when: str
) -> None:
    async def test(life: Life) -> dict[str, object]:
        await life.apply()
        async with await MortalClient.connect(kuberay.kubeconfig) as other:
            other.count()
            life.players = Players(other, life.namespace)
            life.client.count(**{when: write})
            assert await life.until(FINAL) == "Succeeded"
        happened = life.deaths == 1
        assert happened or len(life.client.writes) <= write, "the kill has to happen"
        return await life.essence()

    assert lived(kuberay, test) == undisturbed


def test_a_job_that_is_deleted_and_applied_again_at_once_has_a_life_of_its_own(
    kuberay: Cluster,
) -> None:
    async def test(life: Life) -> None:
        await life.apply()
        for _ in range(8):
            await life.look()
            await life.players.act()
        first = (await life.job())["metadata"]["uid"]
        await life.client.delete(FINE_TUNE_JOBS, life.namespace, "reviews")
        await life.apply()
        assert (await life.job())["metadata"]["uid"] != first
        assert await life.until(FINAL) == "Succeeded"
        uid = (await life.job())["metadata"]["uid"]
        for _ in range(100):  # the garbage collector has its own pace
            attempts = await life.children(ATTEMPTS)
            if all(a["spec"]["owner"] == uid for a in attempts):
                break
            await asyncio.sleep(0.2)
        assert [a["spec"]["owner"] for a in attempts] == [uid, uid]

    lived(kuberay, test)


def test_a_foreign_rayjob_of_the_same_name_is_left_alone_and_told(kuberay: Cluster) -> None:
    async def test(life: Life) -> None:
        await life.apply()
        uid = (await life.job())["metadata"]["uid"]
        name = f"reviews-{uid[:5]}-1"
        foreign: dict[str, object] = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": {"name": name, "namespace": life.namespace},
            "spec": {"entrypoint": "true", "rayClusterSpec": _cluster_spec()},
        }
        await life.client.create(RAY_JOBS, life.namespace, foreign)
        for _ in range(12):
            await life.look()
            await life.players.act()
        status = (await life.job())["status"]
        assert "belongs to somebody else" in status["message"]
        kept = json.dumps(await life.client.get(RAY_JOBS, life.namespace, name))
        assert json.loads(kept)["spec"]["entrypoint"] == "true"

    lived(kuberay, test)


def test_a_quota_that_refuses_the_rayjob_is_told_in_its_own_words(kuberay: Cluster) -> None:
    async def test(life: Life) -> None:
        kuberay.apply(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "none"},
                "spec": {"hard": {"count/rayjobs.ray.io": "0"}},
            },
            namespace=life.namespace,
        )
        await life.apply()
        for _ in range(40):
            await life.look()
            await life.players.act()
            message = (await life.job()).get("status", {}).get("message", "")
            if "quota" in message:
                break
            await asyncio.sleep(0.2)
        assert "exceeded quota: none" in message
        kuberay.kubectl("delete", "quota", "none", "--namespace", life.namespace)
        assert await life.until(FINAL) == "Succeeded"

    lived(kuberay, test)


def test_a_suspended_job_is_gone_on_with_by_a_controller_that_was_away(kuberay: Cluster) -> None:
    async def test(life: Life) -> None:
        await life.apply()
        while not await life.children(RAY_JOBS):
            await life.look()
            await life.players.act()
        await life.players.act()
        await life.players.act()
        await life.kill()
        wish = {"spec": {"suspend": True}}
        await life.client.patch(FINE_TUNE_JOBS, life.namespace, "reviews", wish)
        assert await life.until({"Suspended"}) == "Suspended"
        await life.kill()
        wish = {"spec": {"suspend": False}}
        await life.client.patch(FINE_TUNE_JOBS, life.namespace, "reviews", wish)
        assert await life.until(FINAL) == "Succeeded"
        numbers = [a["number"] for a in (await life.job())["status"]["attempts"]]
        assert numbers == [0, 1, 2]

    lived(kuberay, test)


@pytest.mark.parametrize(
    "served",
    [
        pytest.param((), id="without a word of the queue"),
        pytest.param((OLDER_WORKLOADS, WORKLOADS), id="with Kueue's words"),
        pytest.param((OLDER_WORKLOADS,), id="with an older Kueue's words"),
    ],
)
def test_a_queued_job_is_admitted_evicted_and_queues_again(
    kuberay: Cluster, served: tuple[Resource, ...]
) -> None:
    async def test(life: Life) -> None:
        kueue = Kueue(life.client, life.namespace, served[-1]) if served else None
        await life.apply(queue="gpu")
        assert await life.until({"Queued"}) == "Queued"
        await life.says("attempt 1: waiting to be admitted by the queue gpu")
        first = (await life.children(RAY_JOBS))[0]["metadata"]["name"]
        if kueue is not None:
            await kueue.queues(first)
            await life.says(f"by the queue gpu: Pending: {CROWDED}")
            await kueue.admits(first)
        await life.players.admit(first)
        assert await life.until({"Running"}) == "Running"
        if kueue is not None:
            await kueue.evicts(first)
        await life.players.evict(first)
        assert await life.until({"Queued"}) == "Queued"
        (second,) = (o["metadata"] for o in await life.children(RAY_JOBS))
        assert second["name"].endswith("-2"), "the evicted one gave its name and its place up"
        line = (await life.job())["status"]["attempts"][1]
        assert line["failure"] == "preempted"
        assert (OUTRANKED in line["message"]) is (kueue is not None)
        await life.players.admit(second["name"])
        assert await life.until(FINAL) == "Succeeded"
        kept = await life.client.get(RAY_JOBS, life.namespace, second["name"])
        groups = json.loads(json.dumps(kept))["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        assert groups[0]["template"]["spec"]["nodeSelector"] == {"pool": "spot"}

    with installed(kuberay, *served) if served else contextlib.nullcontext():
        lived(kuberay, test)


def test_two_controllers_by_mistake_make_nothing_twice(kuberay: Cluster) -> None:
    async def test(life: Life) -> None:
        await life.apply()
        async with await MortalClient.connect(kuberay.kubeconfig) as other:
            other.count()
            twin = Life(kuberay, life.namespace, other)
            twin.players = life.players
            try:
                for _ in range(200):
                    await asyncio.gather(life.look(), twin.look())
                    await life.players.act()
                    if await life.phase() in FINAL:
                        break
                    life.later += timedelta(seconds=2)
                    twin.later = life.later
            finally:
                await twin.kill()
        assert await life.phase() == "Succeeded"
        assert len(await life.children(RAY_JOBS)) == 1
        assert len(await life.children(ATTEMPTS)) == 2

    lived(kuberay, test)


def _cluster_spec() -> dict[str, object]:
    pod = {"spec": {"containers": [{"name": "ray", "image": "ray"}]}}
    return {"headGroupSpec": {"rayStartParams": {}, "template": pod}}
