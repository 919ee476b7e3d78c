"""A node that stops without a word, while a job prepares or trains: told, and gone on elsewhere.

On servers of this module's own, with the real controller manager, scheduler and KubeRay operator;
nodes, pods and what pods say are played. Kubernetes' periods are shortened (a node is missed
after 50 s and its pods are deleted 300 s later, elsewhere), and where the controller has to wait
for long, its clock is set forward.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.cluster import actors
from tests.cluster.actors import MortalClient, everything
from tests.cluster.commands import define
from tests.cluster.lives import FINAL, Life
from tests.cluster.nodes import Nodes, nodes
from tests.cluster.players import Players, players
from tests.testbed import control_plane, kuberay
from tests.testbed import life as bed_life
from tests.testbed.bed import Bed
from tests.testbed.clusters import Cluster
from tests.testbed.parts import KUBERNETES
from tunefleet.controller.kinds import ATTEMPTS, RAY_JOBS
from tunefleet.kube.client import Client
from tunefleet.kube.resources import Manifest, Resource

QUICK = {
    "apiserver": (
        "--default-not-ready-toleration-seconds=4",
        "--default-unreachable-toleration-seconds=4",
    ),
    "controllers": (
        "--node-monitor-period=1s",
        "--node-monitor-grace-period=10s",
        "--node-eviction-rate=1",
    ),
}
PODS = 4  # a head, two workers, and the one that submits
HEAD, WORKERS = "ray.io/node-type=head", "ray.io/node-type=worker"
PATIENCE = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    bed = Bed("silent-node")
    bed_life.prepare("cp", install=False, say=print)
    try:
        control_plane.up(bed, settings=QUICK, say=print)
        kuberay.up(bed, say=print)
        found = Cluster(bed.kubeconfig, str(KUBERNETES.path("kubectl")), bed)
        define(found)
        yield found
    finally:
        bed_life.down(bed, say=print)


@pytest.fixture(scope="module")
def fleet(cluster: Cluster) -> Iterator[Nodes]:
    """Enough for two attempts beside each other, and one that prepares."""
    with nodes(cluster, 2 * PODS + 1) as found:
        yield found


class RealClient(MortalClient):
    """The controller's client where a real operator leads its RayJobs."""

    async def create(
        self, resource: Resource, namespace: str | None, body: Manifest
    ) -> dict[str, object]:
        return await Client.create(self, resource, namespace, body)


class Speakers(actors.Players):
    """What pods say: the one that prepares, and the driver once KubeRay says that it runs.

    A driver tells one step, and ends when ``finishing``. ``hushed`` attempts say nothing.
    """

    def __init__(self, client: Client, namespace: str, stage: Players) -> None:
        super().__init__(client, namespace)
        self.stage = stage
        self.hushed: set[str] = set()
        self.finishing = False
        self.places: dict[str, set[str]] = {}

    async def _prepare(self, name: str) -> None:
        if name not in self.hushed:
            await super()._prepare(name)

    async def _train(self, name: str, command: str) -> None:
        found = await everything(self.client, RAY_JOBS, self.namespace)
        runs = [o for o in found if o.get("status", {}).get("jobStatus") == "RUNNING"]
        if name in self.hushed or name not in [o["metadata"]["name"] for o in runs]:
            return
        if self.steps.setdefault(name, 0) == 0:
            self.steps[name] = 10
            self.places[name] = {node_of(pod) for pod in await self.pods(name)}
            await self.says_step(name, 10)
        elif self.finishing:
            result = {"phase": "Succeeded", "step": 30, "bundle": actors.BUNDLE}
            await self.say(ATTEMPTS, name, {"result": result})
            await asyncio.to_thread(self.stage.end_ray_job, name, "SUCCEEDED")

    async def says_step(self, name: str, step: int) -> None:
        progress = {"step": step, "totalSteps": 30, "epoch": 0.1, "epochs": 1, "workers": 2}
        told = {"phase": "Running", "checkpointStep": step, **progress}
        await self.say(ATTEMPTS, name, {"progress": told})

    async def pods(self, attempt: str, selector: str = "") -> list[dict[str, Any]]:
        labels = ",".join(filter(None, (f"tunefleet.dev/attempt={attempt}", selector)))
        return await asyncio.to_thread(self.stage.pods, labels)


class Day:
    """One job, its controller, and those who speak."""

    def __init__(self, life: Life, speakers: Speakers, fleet: Nodes) -> None:
        self.life, self.speakers, self.fleet = life, speakers, fleet
        self.silent = ""

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        """Everybody acts until something holds."""
        deadline = time.monotonic() + PATIENCE
        while True:
            await self.life.look()
            await self.speakers.act()
            if await true():
                return
            assert time.monotonic() < deadline, (await self.life.job())["status"]
            await asyncio.sleep(0.2)

    async def until_says(self, *words: str) -> None:
        async def says() -> bool:
            message = (await self.life.job()).get("status", {}).get("message", "")
            return all(each in message for each in words)

        await self.until(says)

    async def until_attempts(self, count: int) -> None:
        async def made() -> bool:
            return len(await self.life.children(ATTEMPTS)) == count

        await self.until(made)

    async def until_going(self, attempt: str, selector: str) -> None:
        """Until Kubernetes has asked the pods of the silent node to go."""

        async def going() -> bool:
            there = await self._there(attempt, selector)
            return bool(there) and all("deletionTimestamp" in p["metadata"] for p in there)

        await self.until(going)

    async def _there(self, attempt: str, selector: str) -> list[dict[str, Any]]:
        pods = await self.speakers.pods(attempt, selector)
        return [pod for pod in pods if node_of(pod) == self.silent]

    async def trains(self) -> str:
        """The job is applied and trains; its first attempt."""
        await self.life.apply()

        async def running() -> bool:
            return await self.life.phase() == "Running"

        await self.until(running)
        (found,) = await self.life.children(RAY_JOBS)
        return str(found["metadata"]["name"])

    async def falls_silent(self, attempt: str, selector: str) -> None:
        """The node of one of these pods stops."""
        self.silent = node_of((await self.speakers.pods(attempt, selector))[0])
        self.fleet.fall_silent(self.silent)

    async def ends_well(self) -> list[tuple[int, str | None]]:
        """The job succeeds; its attempts with the class of each one's failure."""
        self.speakers.finishing = True

        async def over() -> bool:
            return await self.life.phase() in FINAL

        await self.until(over)
        status = (await self.life.job())["status"]
        assert status["phase"] == "Succeeded", status
        return [(each["number"], each.get("failure")) for each in status["attempts"]]


def node_of(pod: dict[str, Any]) -> str:
    return str(pod["spec"].get("nodeName", ""))


def lived(cluster: Cluster, fleet: Nodes, test: Callable[[Day], Awaitable[None]]) -> None:
    async def main() -> None:
        async with a_day(cluster, fleet) as day:
            await test(day)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def a_day(cluster: Cluster, fleet: Nodes) -> AsyncIterator[Day]:
    with cluster.namespace() as namespace, players(cluster, namespace) as stage:
        stage.hold()  # pods are the nodes' business
        client = await RealClient.connect(cluster.kubeconfig, writes_per_second=500, burst=500)
        async with client:
            client.count()
            life = Life(cluster, namespace, client)
            day = Day(life, Speakers(client, namespace, stage), fleet)
            try:
                yield day
            finally:
                await life.kill()
                if day.silent:
                    fleet.come_back(day.silent)


# -- the head's node ---------------------------------------------------------------------


def test_a_head_whose_node_is_silent_is_replaced_elsewhere_and_its_late_word_is_not_heard(
    cluster: Cluster, fleet: Nodes
) -> None:
    async def test(day: Day) -> None:
        first = await day.trains()
        day.speakers.hushed.add(first)
        day.speakers.stage.mute(first)
        await day.falls_silent(first, HEAD)
        said = f"{day.silent} is silent or not ready, with 1 of {PODS} pods"
        await day.until_says(said)
        assert await day.life.phase() == "Running"
        await day.until_going(first, HEAD)
        ray_job = await day.life.client.get(RAY_JOBS, day.life.namespace, first)
        assert ray_job["status"]["jobDeploymentStatus"] == "Running"  # type: ignore[index]
        day.life.later += timedelta(seconds=90)  # its grace time, and that of clocks
        await day.until_attempts(3)
        (told,) = [a for a in (await day.life.job())["status"]["attempts"] if a["number"] == 1]
        assert told["failure"] == "infrastructure"
        assert told["message"].startswith(f"{day.silent} is silent: ")
        (ghost,) = [pod for pod in await day.speakers.pods(first, HEAD)]
        assert ghost["status"]["phase"] == "Running", "nobody has ended it"
        await day.speakers.says_step(first, 29)
        result = {"phase": "Succeeded", "step": 30, "bundle": actors.BUNDLE}
        await day.speakers.say(ATTEMPTS, first, {"result": result})
        assert await day.ends_well() == [(0, None), (1, "infrastructure"), (2, None)]
        second = max(day.speakers.places)
        assert second != first
        assert day.silent not in day.speakers.places[second]
        (after,) = [a for a in (await day.life.job())["status"]["attempts"] if a["number"] == 1]
        assert after == told
        await it_comes_back(day, first)

    lived(cluster, fleet, test)


async def it_comes_back(day: Day, attempt: str) -> None:
    """The silent node is heard again, and its kubelet ends what was left there."""
    before = await day.life.essence()
    day.fleet.come_back(day.silent)

    async def empty() -> bool:
        return await day.speakers.pods(attempt) == []

    await day.until(empty)
    assert await day.life.essence() == before


@pytest.mark.full
def test_a_head_whose_node_leaves_the_cluster_is_not_waited_for_without_end(
    cluster: Cluster, fleet: Nodes
) -> None:
    async def test(day: Day) -> None:
        first = await day.trains()
        day.speakers.hushed.add(first)
        day.speakers.stage.mute(first)
        await day.falls_silent(first, HEAD)
        day.fleet.leave(day.silent)
        await day.until_says("its head is gone; its RayJob is about to end")
        ray_job = await day.life.client.get(RAY_JOBS, day.life.namespace, first)
        assert ray_job["status"]["jobDeploymentStatus"] == "Running"  # type: ignore[index]
        day.life.later += timedelta(seconds=90)
        await day.until_attempts(3)
        assert await day.ends_well() == [(0, None), (1, "infrastructure"), (2, None)]

    lived(cluster, fleet, test)


# -- a worker's node ---------------------------------------------------------------------


@pytest.mark.full
def test_a_worker_that_is_not_replaced_ends_the_attempt_though_its_driver_waits(
    cluster: Cluster, fleet: Nodes
) -> None:
    async def test(day: Day) -> None:
        first = await day.trains()
        workers = {pod["metadata"]["name"] for pod in await day.speakers.pods(first, WORKERS)}
        await day.falls_silent(first, WORKERS)
        await day.until_going(first, WORKERS)
        await asyncio.sleep(7)  # two rounds of the operator's
        after = {pod["metadata"]["name"] for pod in await day.speakers.pods(first, WORKERS)}
        assert after == workers, "KubeRay makes another worker by now: build anew"
        day.speakers.hushed.add(first)
        day.life.later += timedelta(seconds=200)  # a worker has two minutes to save
        await day.until_attempts(3)
        assert await day.ends_well() == [(0, None), (1, "infrastructure"), (2, None)]

    lived(cluster, fleet, test)


@pytest.mark.full
def test_a_driver_that_misses_a_worker_is_followed_once_the_silent_node_was_waited_for(
    cluster: Cluster, fleet: Nodes
) -> None:
    async def test(day: Day) -> None:
        first = await day.trains()
        await day.falls_silent(first, WORKERS)
        day.speakers.hushed.add(first)
        lost = {"phase": "Failed", "failure": "infrastructure", "message": "a worker was lost"}
        await day.speakers.say(ATTEMPTS, first, {"result": lost})
        await asyncio.to_thread(day.speakers.stage.end_ray_job, first, "FAILED", "exit code 1")
        await day.until_says("a worker was lost; trying again when its 1 pods are gone", day.silent)
        assert len(await day.life.children(ATTEMPTS)) == 2
        day.life.later += timedelta(seconds=200)
        await day.until_attempts(3)
        assert await day.ends_well() == [(0, None), (1, "infrastructure"), (2, None)]

    lived(cluster, fleet, test)


# -- where it prepares -------------------------------------------------------------------


@pytest.mark.full
def test_a_node_that_falls_silent_while_a_job_prepares_costs_no_attempt(
    cluster: Cluster, fleet: Nodes
) -> None:
    async def test(day: Day) -> None:
        await day.life.apply()
        await day.until_attempts(1)
        (found,) = await day.life.children(ATTEMPTS)
        first = str(found["metadata"]["name"])
        day.speakers.hushed.add(first)

        async def pods(count: int) -> bool:
            there = await day.speakers.pods(first)
            return [pod["status"]["phase"] for pod in there] == ["Running"] * count

        await day.until(lambda: pods(1))
        await day.falls_silent(first, "")
        await day.until_says(f"{day.silent} is silent or not ready, with 1 of 1 pods")
        await day.until(lambda: pods(2))
        day.speakers.hushed.clear()
        assert await day.ends_well() == [(0, None), (1, None)]

    lived(cluster, fleet, test)
