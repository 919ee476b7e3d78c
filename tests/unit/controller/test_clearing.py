"""A job that has ended leaves nothing behind that runs and costs."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.controller.test_life import until_it_is_launched, until_it_trains
from tests.unit.controller.world import RUNTIME, World, a_cluster_job
from tunefleet.controller.jobs.clearing import REST_SECONDS
from tunefleet.controller.jobs.decide import decide


def a_world(**retry: int) -> World:
    world, job = World(), a_cluster_job()
    spec = job["spec"]
    assert isinstance(spec, dict)
    if retry:
        spec["retry"] = retry
    world.put("FineTuneJob", job)
    return world


def phase(world: World) -> str:
    return str(world.of("FineTuneJob")[0]["status"]["phase"])


def attempt(world: World) -> str:
    return str(world.of("FineTuneAttempt")[-1]["metadata"]["name"])


def with_a_head(world: World) -> dict[str, Any]:
    """Its pod is the head of a RayCluster, as KubeRay names it."""
    name = attempt(world)
    world.touch(("RayJob", name), {"rayClusterName": "rays"})
    pod = world.objects["Pod", f"{name}-train"]
    pod["metadata"]["labels"] |= {"ray.io/cluster": "rays", "ray.io/node-type": "head"}
    pod["spec"] = {"nodeName": "node-7"}
    return pod


def test_a_failed_job_takes_away_a_rayjob_that_waits_for_a_silent_node() -> None:
    world = until_it_trains(a_world(maxFailures=0))
    world.progresses()
    pod = with_a_head(world)
    gone = world.now + timedelta(seconds=20)
    pod["metadata"]["deletionTimestamp"] = gone.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.waits()
    world.waits()
    world.reconcile()
    assert phase(world) == "Failed"
    world.reconcile()
    assert world.of("RayJob") == []


def test_a_rayjob_made_right_before_a_cancel_is_taken_away_when_it_is_seen() -> None:
    world = until_it_is_launched(a_world())
    cached = {key: o for key, o in world.copy().items() if key[0] != "RayJob"}
    world.wishes(cancel=True)
    cached |= {key: o for key, o in world.copy().items() if key[0] == "FineTuneJob"}
    world.reconcile(cached)
    assert phase(world) == "Stopped"
    assert len(world.of("RayJob")) == 1, "it was not known of"
    world.kuberay_starts()
    world.reconcile()
    assert world.of("RayJob") == []


def test_a_prepare_job_made_right_before_a_cancel_is_taken_away_when_it_is_seen() -> None:
    world = a_world()
    while not world.of("Job"):
        world.reconcile()
    cached = {key: o for key, o in world.copy().items() if key[0] != "Job"}
    world.wishes(cancel=True)
    cached |= {key: o for key, o in world.copy().items() if key[0] == "FineTuneJob"}
    world.reconcile(cached)
    assert phase(world) == "Stopped"
    world.touch(("Job", attempt(world)), {"active": 1})
    world.reconcile()
    assert world.of("Job") == []


@pytest.mark.parametrize("end", ["finishes", "fails"])
def test_a_rayjob_whose_driver_hangs_after_its_last_word_is_waited_for_a_while(end: str) -> None:
    world = until_it_trains(a_world(maxFailures=0))
    world.progresses()
    with_a_head(world)
    getattr(world, end)()
    world.reconcile()
    assert phase(world) == ("Succeeded" if end == "finishes" else "Failed")
    before = copy.deepcopy(world.objects)
    again = world.reconcile().again
    assert again is not None and REST_SECONDS - 1 < again < REST_SECONDS + 1
    assert world.objects == before
    world.now += timedelta(seconds=again)
    world.reconcile()
    assert world.of("RayJob") == []


def test_a_rayjob_of_which_nobody_knows_since_when_it_lingers_is_not_waited_for() -> None:
    world = until_it_trains(a_world())
    world.progresses()
    world.finishes()
    world.reconcile()
    assert phase(world) == "Succeeded"
    del world.of("FineTuneJob")[0]["status"]["attempts"][-1]["ended"]
    world.reconcile()
    assert world.of("RayJob") == []


def test_a_rayjob_that_ended_by_itself_stays_for_who_looks_at_it() -> None:
    world = a_world()
    world.goes_on_to_its_end()
    world.waits()
    world.waits()
    assert world.reconcile().again is None
    assert len(world.of("RayJob")) == 1


@pytest.mark.parametrize(
    "known", [True, False], ids=["is known to be gone", "is not just out of sight"]
)
def test_a_rayjob_is_taken_away_for_want_of_a_head_only_where_it(known: bool) -> None:
    world = until_it_trains(a_world())
    world.progresses()
    with_a_head(world)
    world.wishes(cancel=True)
    del world.objects["Pod", f"{attempt(world)}-train"]
    observed = replace(world.observed(), pods_known=known)
    assert (decide(observed, RUNTIME, world.now).delete is not None) == known
