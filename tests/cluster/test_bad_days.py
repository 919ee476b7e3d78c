"""Days on which a cluster lets a job down: parts missing, put back, taken away or edited by hand.

On servers of this module's own, without a KubeRay operator: kinds come and go, and what etcd
keeps is put back to earlier. Where the whole controller is at work, workers and queue included,
it runs in this process.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import pytest

from tests import rayjobs
from tests.cluster.actors import MortalClient, Players, everything, moment
from tests.cluster.at_work import Watched, at_work, is_in, job_of, until
from tests.cluster.commands import define
from tests.cluster.lives import FINAL, Life, lived
from tests.testbed import control_plane
from tests.testbed import life as bed_life
from tests.testbed.bed import Bed
from tests.testbed.clusters import Cluster
from tests.testbed.kuberay import CRDS as RAY_KINDS
from tests.testbed.parts import KUBERAY, KUBERNETES
from tests.testbed.processes import Processes
from tests.unit.controller.world import a_cluster_job
from tunefleet.controller.kinds import ATTEMPTS, FINE_TUNE_JOBS, RAY_JOBS
from tunefleet.kube.access import Call
from tunefleet.kube.errors import ApiError
from tunefleet.render.names import QUEUE_LABEL

RAY_JOB_KIND = f"{RAY_JOBS.plural}.{RAY_JOBS.group}"
NEW_FIELD = "preRunningDeadlineSeconds"
HOLD = "tests.dev/hold"


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    made = Bed("bad-days")
    bed_life.up(made, "cp", say=print)
    try:
        yield made
    finally:
        bed_life.down(made, say=print)


@pytest.fixture(scope="module")
def bare(bed: Bed) -> Cluster:
    """The servers with our kinds, and whatever of KubeRay a test before has left."""
    cluster = Cluster(bed.kubeconfig, str(KUBERNETES.path("kubectl")), bed)
    define(cluster)
    return cluster


@pytest.fixture
def cluster(bare: Cluster) -> Cluster:
    """The same with KubeRay's kinds."""
    install_kuberay(bare)
    return bare


def install_kuberay(cluster: Cluster) -> None:
    """Apply KubeRay's definitions as they are shipped."""
    folder = KUBERAY.folder / "config" / "crd" / "bases"
    way = ("--server-side", "--force-conflicts", "--filename", str(folder))
    cluster.kubectl("apply", *way)
    kinds = [f"crd/{kind}" for kind in RAY_KINDS]
    cluster.kubectl("wait", "--for=condition=Established", *kinds)


# -- KubeRay: absent, late, too old ------------------------------------------------------


def test_kuberay_that_is_installed_late_is_waited_for(bare: Cluster) -> None:
    async def test(life: Life) -> None:
        await life.apply()
        await life.until({"Launching"})
        await life.says("install the KubeRay operator (1.6 or newer)")
        reasons = {c["type"]: c["reason"] for c in (await life.job())["status"]["conditions"]}
        assert reasons["Reconciling"] == "KubeRayMissing"
        await asyncio.to_thread(install_kuberay, bare)
        assert await life.until(FINAL) == "Succeeded"

    bare.kubectl("delete", "crd", RAY_JOB_KIND, "--ignore-not-found", "--wait=true")
    lived(bare, test)


def test_kuberay_that_is_too_old_is_named_and_waited_for(cluster: Cluster) -> None:
    async def test(life: Life) -> None:
        await until(lambda: _refused(life))
        await life.apply()
        await life.until({"Launching"})
        await life.says(f"does not know a RayJob's spec.{NEW_FIELD}: upgrade its operator")
        reasons = {c["type"]: c["reason"] for c in (await life.job())["status"]["conditions"]}
        assert reasons["Reconciling"] == "KubeRayTooOld"
        assert await life.children(RAY_JOBS) == []
        await asyncio.to_thread(install_kuberay, cluster)
        assert await life.until(FINAL) == "Succeeded"

    found = json.loads(cluster.kubectl("get", "crd", RAY_JOB_KIND, "--output=json"))
    for version in found["spec"]["versions"]:
        fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        fields.pop(NEW_FIELD, None)
    cluster.kubectl("replace", "--filename", "-", stdin=json.dumps(found))
    lived(cluster, test)


async def _refused(life: Life) -> bool:
    """Whether the server goes by the older definition by now."""
    body = {
        "apiVersion": RAY_JOBS.api_version,
        "kind": RAY_JOBS.kind,
        "metadata": {"name": "tried"},
        "spec": {"entrypoint": "true", NEW_FIELD: 1},
    }
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    try:
        call = Call("POST", RAY_JOBS.path(life.namespace), query, body)
        await life.client.read("create", RAY_JOBS, call)
    except ApiError as error:
        return NEW_FIELD in error.message
    return False


# -- edited by hand ----------------------------------------------------------------------


def test_a_rayjob_suspended_by_hand_says_so_and_goes_on(cluster: Cluster) -> None:
    async def test(life: Life) -> None:
        name = await _running(life)
        await life.client.patch(RAY_JOBS, life.namespace, name, {"spec": {"suspend": True}})
        assert await life.until({"Queued"}) == "Queued"
        await life.says("its RayJob was suspended by hand; it goes on after `kubectl patch rayjob")
        await life.client.patch(RAY_JOBS, life.namespace, name, {"spec": {"suspend": False}})
        assert await life.until(FINAL) == "Succeeded"
        assert [a["number"] for a in (await life.job())["status"]["attempts"]] == [0, 1]

    lived(cluster, test)


def test_a_rayjob_whose_command_is_edited_is_not_fought_over(cluster: Cluster) -> None:
    async def test(life: Life) -> None:
        name = await _running(life)
        edited = {"spec": {"entrypoint": "sleep 1", "rayClusterSpec": {"rayVersion": "2.0.0"}}}
        await life.client.patch(RAY_JOBS, life.namespace, name, edited)
        kept = await life.client.get(RAY_JOBS, life.namespace, name)
        life.client.count()
        assert await life.until(FINAL) == "Succeeded"
        assert "create RayJob" not in life.client.writes
        assert "delete RayJob" not in life.client.writes
        after = await life.client.get(RAY_JOBS, life.namespace, name)
        assert after["spec"] == kept["spec"]

    lived(cluster, test)


def test_a_job_edited_after_its_start_stays_what_it_is(cluster: Cluster) -> None:
    async def test(life: Life) -> None:
        name = await _running(life)
        with pytest.raises(ApiError) as caught:
            changed = {"spec": {"training": {"epochs": 7}}}
            await life.client.patch(FINE_TUNE_JOBS, life.namespace, "reviews", changed)
        assert caught.value.invalid
        budget = {"spec": {"budget": {"maxDuration": "6h"}}}
        label = {"metadata": {"labels": {QUEUE_LABEL: "gpu"}}}
        await life.client.patch(FINE_TUNE_JOBS, life.namespace, "reviews", budget | label)
        assert await life.until(FINAL) == "Succeeded"
        job = await life.job()
        assert job["status"]["observedGeneration"] == job["metadata"]["generation"] == 2
        ray_job = await life.client.get(RAY_JOBS, life.namespace, name)
        assert QUEUE_LABEL not in json.dumps(ray_job["metadata"])

    lived(cluster, test)


async def _running(life: Life) -> str:
    """A job that has begun to train; its RayJob's name."""
    await life.apply()
    assert await life.until({"Running"}) == "Running"
    (found,) = await life.children(RAY_JOBS)
    return str(found["metadata"]["name"])


# -- clocks ------------------------------------------------------------------------------


def test_a_clock_that_jumps_back_and_forth_changes_no_end(cluster: Cluster) -> None:
    async def undisturbed(life: Life) -> dict[str, object]:
        return await _fails_once(life, jump=timedelta())

    async def disturbed(life: Life) -> dict[str, object]:
        return await _fails_once(life, jump=timedelta(days=2))

    assert lived(cluster, disturbed) == lived(cluster, undisturbed)


async def _fails_once(life: Life, jump: timedelta) -> dict[str, object]:
    """A life with a failure in it, whose controller's clock is set with every look."""
    await life.apply()
    failed = False
    for look in range(200):
        life.later += jump if look % 2 else -jump
        await life.look()
        if not failed and await life.phase() == "Running":
            failed = True
            (found,) = await life.children(RAY_JOBS)
            await _fails(life.players, found["metadata"]["name"])
        await life.players.act()
        if await life.phase() in FINAL:
            return await life.essence()
        life.later += timedelta(seconds=2)
    raise AssertionError((await life.job()).get("status"))


async def _fails(players: Players, attempt: str, failure: str = "infrastructure") -> None:
    """A driver ends badly, and its RayJob with it."""
    result = {"phase": "Failed", "failure": failure, "message": "a lost worker"}
    await players.say(ATTEMPTS, attempt, {"result": result})
    await players.say(RAY_JOBS, attempt, rayjobs.said("fails", "Failed", moment()))


# -- the whole controller ----------------------------------------------------------------


def test_a_namespace_that_is_deleted_is_left_alone_and_others_are_served(
    cluster: Cluster,
) -> None:
    async def test(client: Watched, user: MortalClient, doomed: str, other: str) -> None:
        there, elsewhere = Players(user, doomed), Players(user, other)
        held = a_cluster_job()
        held["metadata"] = {"name": "reviews", "finalizers": [HOLD]}
        await user.create(FINE_TUNE_JOBS, doomed, held)
        await until(lambda: is_in(user, doomed, "Running"), meanwhile=there.act)
        await user.create(FINE_TUNE_JOBS, other, a_cluster_job())
        await asyncio.to_thread(cluster.kubectl, "delete", "namespace", doomed, "--wait=false")
        await until(lambda: _is_emptied(user, doomed), meanwhile=elsewhere.act)
        # Until its job is marked too, one more write may be tried, and is refused.
        await asyncio.sleep(1)
        begun = len(client.paths)
        await until(lambda: is_in(user, other, "Succeeded"), meanwhile=elsewhere.act)
        await asyncio.sleep(5)
        assert [path for path in client.paths[begun:] if f"/{doomed}/" in path] == []
        job = await job_of(user, doomed)
        assert job is not None, "its finalizer holds it, and with it the namespace"
        assert "deletionTimestamp" in job["metadata"]
        await user.patch(FINE_TUNE_JOBS, doomed, "reviews", {"metadata": {"finalizers": None}})

    async def main() -> None:
        with cluster.namespace() as other:
            doomed = f"{other}-doomed"
            cluster.kubectl("create", "namespace", doomed)
            async with (
                at_work(cluster) as client,
                await MortalClient.connect(cluster.kubeconfig) as user,
            ):
                user.count()
                await test(client, user, doomed, other)

    asyncio.run(main())


async def _is_emptied(client: MortalClient, namespace: str) -> bool:
    """Whether a job's children are gone, and it is on its way."""
    job = await job_of(client, namespace)
    return (job is None or "deletionTimestamp" in job["metadata"]) and not [
        each for kind in (RAY_JOBS, ATTEMPTS) for each in await everything(client, kind, namespace)
    ]


class Claims(Players):
    """Players whose storage knows the highest attempt that ever trained, whatever etcd says."""

    highest = 0

    async def _train(self, name: str, command: str) -> None:
        number = int(name.rpartition("-")[2])
        if number < self.highest:
            await _fails(self, name, "fenced")
            return
        self.highest = number
        await super()._train(name, command)


def test_a_store_put_back_to_earlier_counts_on_to_what_storage_knows(
    cluster: Cluster, bed: Bed
) -> None:
    kept, copy = bed.run / "etcd", bed.run / "etcd-before"

    async def test(user: MortalClient, namespace: str) -> None:
        players = Claims(user, namespace)
        await user.create(FINE_TUNE_JOBS, namespace, a_cluster_job())
        await until(lambda: is_in(user, namespace, "Running"), meanwhile=players.act)
        await asyncio.to_thread(_stop, bed, "apiserver", "etcd")
        shutil.copytree(kept, copy)
        await asyncio.to_thread(_start, bed, "etcd", "apiserver")
        first = await _newest(user, namespace)
        await until(lambda: _said(lambda: _fails(players, first)))
        await until(lambda: _has_begun(user, namespace, 2))
        await until(lambda: _trains(players, 2), meanwhile=players.act)
        await asyncio.to_thread(_stop, bed, "apiserver", "etcd")
        shutil.rmtree(kept)
        shutil.move(copy, kept)
        await asyncio.to_thread(_start, bed, "etcd", "apiserver")
        assert await _newest(user, namespace) == first, "the second one is forgotten"
        await until(lambda: is_in(user, namespace, "Succeeded"), meanwhile=players.act)
        job = await job_of(user, namespace)
        assert job is not None
        told = [(a["number"], a.get("failure")) for a in job["status"]["attempts"]]
        assert told == [(0, None), (1, "fenced"), (2, None)]

    async def main() -> None:
        with cluster.namespace() as namespace:
            async with at_work(cluster), await MortalClient.connect(cluster.kubeconfig) as user:
                user.count()
                await test(user, namespace)

    try:
        asyncio.run(main())
    finally:
        # What they remember is of a later time than what etcd knows.
        _stop(bed, "controllers", "scheduler")
        _start(bed, "controllers", "scheduler")


async def _newest(client: MortalClient, namespace: str) -> str:
    """The attempt with the highest number; asked for until the server is back."""
    names: list[str] = []

    async def found() -> bool:
        names[:] = [
            each["metadata"]["name"] for each in await everything(client, ATTEMPTS, namespace)
        ]
        return bool(names)

    await until(found)
    return max(names)


async def _has_begun(client: MortalClient, namespace: str, number: int) -> bool:
    return (await _newest(client, namespace)).endswith(f"-{number}")


async def _trains(players: Claims, number: int) -> bool:
    return players.highest == number


async def _said(say: Callable[[], Awaitable[None]]) -> bool:
    await say()
    return True


def _stop(bed: Bed, *servers: str) -> None:
    for server in servers:
        Processes(bed.run).stop(server)


def _start(bed: Bed, *servers: str) -> None:
    for server in servers:
        control_plane.start(bed, server)
    control_plane.wait_until_served(bed)
