"""What is told of a job that a queue holds back: Kueue's own words, and its place."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.controller.world import World, a_cluster_job
from tests.unit.kube.fake_server import Answer, DirectClient, FakeServer, status
from tests.unit.kube.virtual_time import run
from tunefleet.controller import places as module
from tunefleet.controller.jobs import queueing
from tunefleet.controller.jobs.training import PLACE_SECONDS
from tunefleet.controller.places import Places
from tunefleet.controller.seen import RayJobSeen, WorkloadSeen, workload_seen
from tunefleet.render.names import QUEUE_LABEL

CROWDED = {
    "type": "QuotaReserved",
    "status": "False",
    "reason": "Pending",
    "message": "couldn't assign flavors to pod set workers:\n"
    " insufficient unused quota, 2 more needed",
}
RESERVED = {"type": "QuotaReserved", "status": "True", "reason": "QuotaReserved"}
EVICTED = {
    "type": "Evicted",
    "status": "True",
    "reason": "Preempted",
    "message": "Preempted to accommodate a workload due to prioritization in the ClusterQueue",
}


def a_ray_job(queue: str | None = "gpu") -> RayJobSeen:
    labels = {} if queue is None else {QUEUE_LABEL: queue}
    metadata = {"name": "r", "namespace": "n", "uid": "r", "resourceVersion": "1", "labels": labels}
    return RayJobSeen.model_validate({"metadata": metadata, "spec": {"suspend": True}})


def a_workload(*conditions: object, kind: str = "RayJob") -> WorkloadSeen:
    owner = {"kind": kind, "name": "r", "uid": "r", "controller": True}
    metadata = {"name": "rayjob-r", "namespace": "n", "uid": "w", "resourceVersion": "1"}
    body = {
        "metadata": {**metadata, "ownerReferences": [owner]},
        "status": {"conditions": list(conditions)},
    }
    return workload_seen(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("ray_job", "workload", "place", "said"),
    [
        pytest.param(
            a_ray_job(), None, None, "waiting to be admitted by the queue gpu", id="nothing is told"
        ),
        pytest.param(
            a_ray_job(),
            a_workload(CROWDED),
            3,
            "waiting to be admitted by the queue gpu, place 3: Pending: couldn't assign flavors to "
            "pod set workers: insufficient unused quota, 2 more needed",
            id="there is no quota, and two are before it",
        ),
        pytest.param(
            a_ray_job(),
            a_workload(EVICTED, CROWDED),
            None,
            "waiting to be admitted by the queue gpu: Preempted: Preempted to accommodate a "
            "workload due to prioritization in the ClusterQueue; Pending: couldn't assign flavors "
            "to pod set workers: insufficient unused quota, 2 more needed",
            id="it was evicted, and waits for quota",
        ),
        pytest.param(
            a_ray_job(),
            a_workload(RESERVED),
            None,
            "waiting to be admitted by the queue gpu: its quota is reserved; admission checks are "
            "under way",
            id="it has quota, and is being checked",
        ),
        pytest.param(
            a_ray_job(),
            a_workload(RESERVED, {"type": "Admitted", "status": "True", "reason": "Admitted"}),
            None,
            "waiting to be admitted by the queue gpu",
            id="it is admitted, and not yet let go",
        ),
        pytest.param(
            a_ray_job(queue=None),
            a_workload(CROWDED),
            None,
            "waiting to be admitted: Pending: couldn't assign flavors to pod set workers: "
            "insufficient unused quota, 2 more needed",
            id="a queue of which its labels say nothing",
        ),
        pytest.param(
            a_ray_job(queue=None),
            None,
            None,
            "its RayJob was suspended by hand; it goes on after `kubectl patch rayjob "
            '--namespace=n r --type=merge --patch=\'{"spec":{"suspend":false}}\'`',
            id="no queue has anything to do with it",
        ),
    ],
)
def test_what_a_suspended_rayjob_waits_for(
    ray_job: RayJobSeen, workload: WorkloadSeen | None, place: int | None, said: str
) -> None:
    assert queueing.waiting(ray_job, workload, place) == said


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        pytest.param(None, "its pods had to go; it was saved", id="without a queue"),
        pytest.param(a_workload(RESERVED), "its pods had to go; it was saved", id="not by Kueue"),
        pytest.param(
            a_workload(EVICTED),
            "Kueue took its place (Preempted: Preempted to accommodate a workload due to "
            "prioritization in the ClusterQueue); it was saved",
            id="by Kueue, for another",
        ),
    ],
)
def test_why_an_attempt_had_to_go(workload: WorkloadSeen | None, said: str) -> None:
    assert queueing.taken(workload) == said


def test_who_has_a_place_is_looked_at_again_as_the_queue_moves_up() -> None:
    world = World()
    world.put("FineTuneJob", a_cluster_job())
    for _ in range(6):
        world.reconcile()
        world.prepare_pod_ends()
    (ray_job,) = world.of("RayJob")
    ray_job["spec"]["suspend"] = True
    ray_job["metadata"]["labels"][QUEUE_LABEL] = "gpu"
    assert world.reconcile().again is None
    world.place = 2
    decision = world.reconcile()
    assert decision.status.phase == "Queued"
    assert decision.status.message == "attempt 1: waiting to be admitted by the queue gpu, place 2"
    assert decision.again == PLACE_SECONDS


def test_of_another_kinds_workload_no_more_is_kept_than_that_it_is_there() -> None:
    found = a_workload(CROWDED, kind="Job")
    assert (found.name, found.owner_uid, found.ray_job) == ("rayjob-r", "r", "")
    assert found.condition("QuotaReserved") is None


def a_queue(*names: str) -> list[dict[str, Any]]:
    return [
        {"metadata": {"name": name}, "positionInClusterQueue": at} for at, name in enumerate(names)
    ]


def test_a_queue_is_asked_once_in_a_while_for_everybody_in_it() -> None:
    async def main() -> None:
        server = FakeServer()
        places = Places(DirectClient(server))
        server.put("gpu", collection="localqueues", items=a_queue("a", "b"))
        assert [await places.of("n", "gpu", name) for name in "abc"] == [1, 2, None]
        (asked,) = server.requests
        assert asked.path == (
            "/apis/visibility.kueue.x-k8s.io/v1beta2/namespaces/n/localqueues/gpu/pendingworkloads"
        )
        assert asked.query == {"limit": str(module.FIRST_PLACES)}
        server.put("gpu", collection="localqueues", items=a_queue("b"))
        assert await places.of("n", "gpu", "b") == 2
        await asyncio.sleep(module.FRESH_SECONDS + 1)
        assert await places.of("n", "gpu", "b") == 1
        assert len(server.requests) == 2

    run(main())


def test_an_older_kueue_is_asked_in_its_own_version() -> None:
    async def main() -> None:
        server = FakeServer()
        server.put("gpu", collection="localqueues", items=a_queue("a"))
        server.answers.append(Answer(404, status(404, "NotFound")))
        assert await Places(DirectClient(server)).of("n", "gpu", "a") == 1
        assert "/v1beta1/" in server.requests[-1].path

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, status(404, "NotFound")),
        Answer(403, status(403, "Forbidden")),
        Answer(503, status(503, "ServiceUnavailable")),
        Answer(200, {"items": "many"}),
        Answer(200, b"no JSON"),
    ],
    ids=["is not there", "must not be asked", "is away", "says nonsense", "says no JSON"],
)
def test_without_an_answer_no_place_is_told_and_the_queue_is_left_in_peace(answer: Answer) -> None:
    async def main() -> None:
        server = FakeServer()
        server.put("gpu", collection="localqueues", items=a_queue("a"))
        server.answers.extend([answer] * 2)
        places = Places(DirectClient(server))
        for _ in range(5):
            assert await places.of("n", "gpu", "a") is None
        assert len(server.requests) == 2, "each version once"
        await asyncio.sleep(module.SILENT_SECONDS + 1)
        assert await places.of("n", "gpu", "a") == 1

    run(main())
