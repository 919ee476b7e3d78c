"""A job's life on a real API server: killed around every write, edited, deleted, taken over.

(``tests.cluster.lives`` says how it is looked at.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.cluster.actors import MortalClient, Players
from tests.cluster.kueue import CROWDED, OUTRANKED, Kueue, installed
from tests.cluster.lives import FINAL, Life, lived
from tests.testbed.clusters import Cluster
from tunefleet.controller.kinds import (
    ATTEMPTS,
    FINE_TUNE_JOBS,
    OLDER_WORKLOADS,
    RAY_JOBS,
    WORKLOADS,
)
from tunefleet.kube.resources import Resource

pytestmark = pytest.mark.usefixtures("definitions")


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


# Every write of this life and of three others: test_kill_matrix.py.
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", [0, 2, 3, 5, 7, 10])
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
