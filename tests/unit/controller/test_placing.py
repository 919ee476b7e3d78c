"""Of a range of workers: when an attempt is gone on with fewer, and when more are asked for."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.controller.world import Killed, World, a_cluster_job
from tunefleet.api.profile import ProfileSpec
from tunefleet.api.status import ATTEMPTS_KEPT, AttemptSummary
from tunefleet.api.words import FailureClass
from tunefleet.controller.jobs.attempts import in_vain
from tunefleet.controller.jobs.placing import PATIENCE_SECONDS, next_number, shortage
from tunefleet.controller.seen import NODE_TYPE, AttemptSeen, PodSeen
from tunefleet.plan.processes import RAY
from tunefleet.render.ray_job import PRE_RUNNING_SECONDS

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
FULL = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def an_attempt(workers: dict[str, int] | None = None, planned: int = 4) -> AttemptSeen:
    metadata = {"name": "a-1", "namespace": "team", "uid": "a-1", "resourceVersion": "1"}
    spec = {
        "number": 1,
        "stage": "Train",
        "manifest": {"spec": {"profile": None, "workers": workers or {"min": 2, "max": 4}}},
        "plan": {"workers": planned, "device": "cuda"},
    }
    return AttemptSeen.model_validate_json(json.dumps({"metadata": metadata, "spec": spec}))


def a_pod(role: str, state: str, seconds: float = 400.0, **metadata: Any) -> PodSeen:
    """``has``: a node; ``lacks``: one, since so long; ``new``: nobody has looked; ``gated``."""
    since = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    reasons = {"lacks": "Unschedulable", "gated": "SchedulingGated"}
    told = {
        "type": "PodScheduled",
        "status": "True" if state == "has" else "False",
        "reason": reasons.get(state, ""),
        "message": FULL if state == "lacks" else "",
        "lastTransitionTime": since,
    }
    body = {
        "metadata": {
            "name": f"{role}-{state}",
            "uid": "p",
            "resourceVersion": "1",
            "labels": {NODE_TYPE: role},
            **metadata,
        },
        "status": {"phase": "Pending", "conditions": [] if state == "new" else [told]},
    }
    return PodSeen.model_validate_json(json.dumps(body))


HEAD = a_pod("head", "has")
HAS, LACKS = a_pod("worker", "has"), a_pod("worker", "lacks")
GOING = a_pod("worker", "has", deletionTimestamp="2026-11-28T11:59:00Z")


@pytest.mark.parametrize(
    ("pods", "placed"),
    [
        pytest.param([HEAD, HAS, HAS, LACKS, LACKS], 2, id="as many as are enough have a place"),
        pytest.param([HEAD, HAS, HAS, HAS, LACKS], 3, id="all but one have a place"),
        pytest.param([HEAD, HAS, LACKS, LACKS, LACKS], None, id="too few have a place"),
        pytest.param([HEAD, HAS, HAS, HAS, HAS], None, id="all have a place"),
        pytest.param([HAS, HAS, LACKS, LACKS], None, id="there is no head yet"),
        pytest.param(
            [a_pod("head", "lacks"), HAS, HAS, LACKS, LACKS], None, id="the head has no place"
        ),
        pytest.param(
            [HEAD, HAS, HAS, LACKS, a_pod("worker", "new")], None, id="one was not looked at yet"
        ),
        pytest.param(
            [HEAD, HAS, HAS, LACKS, a_pod("worker", "gated")], None, id="one is held back"
        ),
        pytest.param([HEAD, HAS, GOING, LACKS, LACKS], None, id="one that goes has no place"),
        pytest.param([], None, id="there are no pods"),
    ],
)
def test_an_attempt_is_gone_on_with_by_those_that_have_a_place(
    pods: list[PodSeen], placed: int | None
) -> None:
    found = shortage(an_attempt(), pods, NOW)
    assert (found.placed if found is not None else None) == placed
    if found is not None:
        assert found.wait < 0
        assert found.why == f"{placed} of 4 workers had a place after 300 s; worker-lacks: {FULL}"


@pytest.mark.parametrize(
    ("seconds", "wait"),
    [
        pytest.param((400.0, 10.0), 290.0, id="the last one that lost its place counts"),
        pytest.param((299.0, 301.0), 1.0, id="nearly"),
        pytest.param((301.0, 301.0), -1.0, id="long enough"),
        pytest.param((-7200.0, -7200.0), -float("inf"), id="told by a clock that was set back"),
    ],
)
def test_places_are_waited_for(seconds: tuple[float, float], wait: float) -> None:
    pods = [HEAD, HAS, HAS, *(a_pod("worker", "lacks", each) for each in seconds)]
    found = shortage(an_attempt(), pods, NOW)
    assert found is not None
    assert found.wait == wait


def test_a_fixed_number_of_workers_waits_as_long_as_it_takes() -> None:
    pods = [HEAD, HAS, LACKS]
    assert shortage(an_attempt({"count": 2}, planned=2), pods, NOW) is None


def line(
    number: int,
    workers: int | None,
    step: int = 0,
    failure: str | None = None,
    placed: int | None = None,
) -> AttemptSummary:
    return AttemptSummary(
        name=f"a-{number}",
        number=number,
        phase="Failed",
        step=step,
        failure=FailureClass(failure) if failure else None,
        workers=workers,
        placed=placed,
    )


UNPLACED = line(1, 4, failure="unplaced", placed=2)


@pytest.mark.parametrize(
    ("attempts", "asked"),
    [
        pytest.param([line(0, None)], None, id="the first asks for all"),
        pytest.param([line(0, None), UNPLACED], 2, id="then for those that had a place"),
        pytest.param(
            [UNPLACED, line(2, 2, failure="unplaced", placed=1)], 1, id="fewer still had a place"
        ),
        pytest.param([UNPLACED, line(2, 2, failure="unknown")], 2, id="nothing came of it"),
        pytest.param([UNPLACED, line(2, 2, 40, "preempted")], None, id="a checkpoint came of it"),
        pytest.param(
            [line(1, 4, 40), line(2, 4, 0, "unplaced", 3), line(3, 3, 40, "unknown")],
            3,
            id="no newer checkpoint came of it",
        ),
        pytest.param([line(1, 4, 40, "unplaced", 3)], 3, id="a checkpoint came before the want"),
        pytest.param(
            [line(1, 4, 40, "unplaced", 3), line(2, 3, 60), line(3, 4)], 4, id="all had a place"
        ),
    ],
)
def test_more_are_asked_for_again_once_a_checkpoint_came(
    attempts: list[AttemptSummary], asked: int | None
) -> None:
    assert next_number(attempts) == asked


@pytest.mark.parametrize(
    ("attempts", "count"),
    [
        pytest.param([UNPLACED], 0, id="want of a place is no failure"),
        pytest.param(
            [line(1, 4, failure="unknown"), line(2, 4, failure="unplaced")], 1, id="one before"
        ),
        pytest.param(
            [line(1, 4, 40, "unknown"), line(2, 4, failure="unplaced"), line(3, 4, 40, "unknown")],
            2,
            id="nor does it break a row of failures",
        ),
        pytest.param(
            [line(1, 4, 40, "unknown"), line(2, 4, failure="unplaced"), line(3, 4, 60, "unknown")],
            1,
            id="a checkpoint does",
        ),
    ],
)
def test_what_counts_against_the_retries(attempts: list[AttemptSummary], count: int) -> None:
    assert in_vain(attempts) == count


# -- lives -----------------------------------------------------------------------------------


def a_world(failures: int = 0, **workers: object) -> World:
    world = World(room=2)
    retry = {"maxFailures": failures}
    given = workers or {"min": 1, "max": 4}
    world.put("FineTuneJob", a_cluster_job(retry=retry, workers=given))
    return world


def launched(world: World) -> World:
    for _ in range(4):
        world.reconcile()
        world.prepare_pod_ends()
    world.reconcile()
    assert len(world.of("RayJob")) == 1
    return world


def status(world: World) -> dict[str, Any]:
    return dict(world.of("FineTuneJob")[0]["status"])


def workers(world: World) -> list[int]:
    attempts = sorted(world.of("FineTuneAttempt"), key=lambda a: int(a["spec"]["number"]))
    return [a["spec"]["plan"]["workers"] for a in attempts if "plan" in a["spec"]]


def gone_on_with(world: World) -> None:
    """Some have no place for as long as is waited."""
    world.some_have_no_place()
    world.waits_for_places()
    for _ in range(3):
        world.reconcile()
        world.kuberay_cleans()
    world.reconcile()
    world.reconcile()


def test_a_job_goes_on_with_those_that_had_a_place_and_it_is_no_failure() -> None:
    world = launched(a_world(failures=0))
    world.some_have_no_place()
    world.reconcile()
    told = str(status(world)["message"])
    assert "3 of 5 pods run" in told
    assert FULL in told
    assert "after 300 s it is gone on with 2 workers" in told
    gone_on_with(world)
    assert workers(world) == [4, 2]
    first, second = status(world)["attempts"][1:]
    assert (first["phase"], first["failure"]) == ("Stopped", "unplaced")
    assert (first["workers"], first["placed"], second["workers"]) == (4, 2, 2)
    assert first["message"].startswith("2 of 4 workers had a place after 300 s; ")
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"
    assert len(world.of("RayJob")) == 1, "the first one was taken away"


def test_the_next_attempt_is_told_with_its_number_of_workers() -> None:
    world = launched(a_world())
    world.some_have_no_place()
    world.waits_for_places()
    told = []
    while len(workers(world)) < 2:
        world.reconcile()
        told.append(str(status(world)["message"]))
        world.kuberay_cleans()
    assert told[0].endswith(f"{FULL}; trying again")
    assert told[-1].endswith(f"{FULL}; trying again, on 2 workers")


def test_micro_batches_and_precision_stay_and_the_plan_says_why() -> None:
    world = launched(a_world())
    gone_on_with(world)
    first, second = (a["spec"]["plan"] for a in world.of("FineTuneAttempt")[1:])
    for name in ("microBatch", "batchSize", "windowSteps", "totalSteps", "precision", "specDigest"):
        assert first[name] == second[name]
    reasons = [
        {d["field"]: d["reason"] for d in plan["decisions"]}["spec.workers"]
        for plan in (first, second)
    ]
    assert reasons == ["of 1 to 4: as many as may be", "of 1 to 4: so many had a place"]


def test_fewer_than_are_enough_are_waited_for() -> None:
    world = launched(a_world(min=3, max=4))
    world.some_have_no_place()
    for _ in range(60):
        world.reconcile()
        world.waits()
    assert workers(world) == [4]
    assert "gone on with" not in str(status(world)["message"])
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"


def fails(world: World) -> None:
    world.kuberay_starts()
    world.fails()
    for _ in range(3):
        world.reconcile()
        world.kuberay_cleans()
        world.waits()
    world.reconcile()
    world.reconcile()


def test_after_a_checkpoint_the_next_attempt_asks_for_all_again() -> None:
    world = launched(a_world(failures=3))
    gone_on_with(world)
    fails(world)
    assert workers(world) == [4, 2, 2], "nothing came of it"
    world.kuberay_starts()
    world.progresses()
    fails(world)
    assert workers(world) == [4, 2, 2, 4]


def test_a_job_that_was_suspended_asks_for_all_again() -> None:
    world = launched(a_world())
    gone_on_with(world)
    world.kuberay_starts()
    world.progresses()
    world.wishes(suspend=True)
    world.reconcile()
    world.stops_if_asked()
    for _ in range(2):
        world.reconcile()
        world.kuberay_cleans()
    assert status(world)["phase"] == "Suspended"
    world.wishes(suspend=False)
    for _ in range(3):
        world.reconcile()
    assert workers(world) == [4, 2, 4]


def test_a_worker_whose_node_was_lost_and_that_finds_no_other_is_done_without() -> None:
    world = launched(a_world(min=2, max=3))
    world.kuberay_starts()
    world.progresses()
    world.reconcile()
    world.a_worker_finds_no_place_again()
    world.waits_for_places()
    for _ in range(4):
        world.reconcile()
        world.kuberay_cleans()
    assert workers(world) == [3, 2]
    assert status(world)["attempts"][1]["step"] == 10, "what was saved counts"
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"


@pytest.mark.parametrize("wish", ["suspend", "cancel"])
def test_a_stop_does_not_wait_for_a_save_while_a_worker_has_no_place(wish: str) -> None:
    world = launched(a_world(failures=0))
    world.kuberay_starts()
    world.progresses()
    world.reconcile()
    world.a_worker_finds_no_place_again()
    world.wishes(**{wish: True})
    for _ in range(3):
        world.reconcile()
        world.kuberay_cleans()
    told = status(world)
    assert told["phase"] == ("Suspended" if wish == "suspend" else "Stopped")
    assert "has no place (0/3 nodes are available" in told["attempts"][-1]["message"]
    assert world.of("RayJob") == []
    if wish == "suspend":
        world.wishes(suspend=False)
        world.goes_on_to_its_end()
        assert status(world)["phase"] == "Succeeded", "and it is no failure that is counted"


def test_without_a_checkpoint_in_between_the_number_only_falls() -> None:
    world = launched(a_world(failures=1000, min=1, max=4))
    for turn in range(40):
        world.room = (3, 2, 1)[turn % 3]
        gone_on_with(world)
        fails(world)
    found = workers(world)
    assert found == sorted(found, reverse=True)
    assert set(found) == {4, 3, 2, 1}
    assert len(found) > ATTEMPTS_KEPT, "what is no longer told of is not forgotten"


def test_a_driver_that_fails_while_its_pods_are_taken_away_is_not_counted() -> None:
    world = launched(a_world(failures=0, min=2, max=3))
    world.kuberay_starts()
    world.a_worker_finds_no_place_again()
    world.waits_for_places()
    world.reconcile()
    (_, attempt) = world.of("FineTuneAttempt")
    said = {"phase": "Failed", "failure": "infrastructure", "message": "its workers went"}
    world.touch(("FineTuneAttempt", attempt["metadata"]["name"]), {"result": said})
    for _ in range(4):
        world.reconcile()
        world.kuberay_cleans()
    assert workers(world) == [3, 2]
    told = status(world)["attempts"][1]
    assert (told["phase"], told["failure"]) == ("Stopped", "unplaced")


@pytest.mark.parametrize("look", range(4))
@pytest.mark.parametrize("write", range(3))
def test_a_controller_that_is_killed_on_the_way_forgets_no_place(look: int, write: int) -> None:
    world = launched(a_world(failures=0))
    world.some_have_no_place()
    world.waits_for_places()
    for turn in range(6):
        with contextlib.suppress(Killed):
            world.reconcile(killed_at=write if turn == look else None)
        world.kuberay_cleans()
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"
    assert workers(world) == [4, 2]


@pytest.mark.parametrize(
    ("others", "held"),
    [
        pytest.param(1, True, id="the most do not fit beside others"),
        pytest.param(0, False, id="the most just fit"),
    ],
)
def test_gpus_of_a_namespace_are_counted_as_the_most_until_there_is_a_number(
    others: int, held: bool
) -> None:
    world = World(room=2, gpus_of_others=others)
    world.profile = ProfileSpec.model_validate(
        {
            "resources": {"gpu": 1},
            "accelerator": {"name": "L4", "memory": "24Gi"},
            "limits": {"maxGpusPerNamespace": 4},
        }
    )
    world.put("FineTuneJob", a_cluster_job(profile="l4", workers={"min": 1, "max": 4}))
    for _ in range(6):
        world.reconcile()
        world.prepare_pod_ends()
    assert (status(world)["phase"] == "Pending") is held
    if held:
        assert "waiting for 4 GPUs" in status(world)["message"]
        return
    world.gpus_of_others = 2
    gone_on_with(world)
    assert workers(world) == [4, 2], "two are its number, and two are left"


def test_the_patience_is_shorter_than_rays_and_kuberays() -> None:
    assert float(RAY["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"]) > PATIENCE_SECONDS
    assert PRE_RUNNING_SECONDS > PATIENCE_SECONDS
