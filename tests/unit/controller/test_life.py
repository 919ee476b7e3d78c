"""A job's life under any order of events: one end, one writer at a time, no attempt lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.controller.world import Killed, World, a_cluster_job
from tunefleet.controller.jobs.attempts import waited_since

EVENTS = (
    "prepare_pod_ends",
    "kuberay_starts",
    "progresses",
    "fails",
    "head_is_killed",
    "ray_job_is_deleted",
    "preparing_is_deleted",
    "kuberay_cleans",
    "waits",
    "collect_garbage",
    "stops_if_asked",
    "some_have_no_place",
    "a_worker_finds_no_place_again",
    "waits_for_places",
)
COUNT, RANGE = {"count": 2}, {"min": 1, "max": 3}


def a_world(**changes: object) -> World:
    world = World()
    world.put("FineTuneJob", a_cluster_job(retry={"maxFailures": 1000}, **changes))
    return world


def status(world: World) -> dict[str, object]:
    found = world.of("FineTuneJob")[0]["status"]
    assert isinstance(found, dict)
    return found


def attempts(world: World) -> list[dict[str, object]]:
    found = status(world)["attempts"]
    assert isinstance(found, list)
    return found


def essence(world: World) -> dict[str, object]:
    """What must be the same however it went: not how often it was tried."""
    told = status(world)
    conditions = told["conditions"]
    assert isinstance(conditions, list)
    return {
        "phase": told["phase"],
        "bundle": told["bundle"],
        "run": told["run"],
        "conditions": {c["type"]: (c["status"], c["reason"]) for c in conditions},
    }


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, object]:
    world = a_world()
    world.goes_on_to_its_end()
    return essence(world)


def test_an_undisturbed_job_prepares_trains_once_and_succeeds() -> None:
    world = a_world()
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"
    assert [kind for kind, _ in world.created] == [
        "FineTuneJob",
        "FineTuneAttempt",
        "Job",
        "FineTuneAttempt",
        "RayJob",
        "Pod",
    ]


def until_it_is_launched(world: World) -> World:
    while not world.of("RayJob"):
        world.reconcile()
        world.prepare_pod_ends()
    return world


def until_it_trains(world: World) -> World:
    until_it_is_launched(world)
    world.reconcile()
    world.kuberay_starts()
    assert world.training() is not None
    return world


step = st.one_of(
    st.sampled_from(EVENTS).map(lambda name: ("event", name)),
    # Twice as likely as each of the others: most of what can go wrong takes several looks.
    st.just(("reconcile", "fresh")),
    st.just(("reconcile", "fresh")),
    st.just(("reconcile", "stale")),
    st.integers(0, 2).map(lambda at: ("killed", at)),
    st.just(("remember", "")),
    st.booleans().map(lambda wish: ("suspend", wish)),
    st.sampled_from((-48, -1, 48)).map(lambda hours: ("clock", hours)),
    st.integers(0, 3).map(lambda workers: ("room", workers)),
    # Rare, were it left to three steps to come in their order.
    st.integers(1, 2).map(lambda workers: ("short of places", workers)),
)


@settings(max_examples=200, deadline=None)
@example(
    begun="trains",
    workers=COUNT,
    steps=[
        ("event", "fails"),
        ("remember", ""),
        ("event", "preparing_is_deleted"),
        ("reconcile", "stale"),
    ],
)
@example(
    begun="launched",
    workers=RANGE,
    steps=[
        ("room", 2),
        ("event", "some_have_no_place"),
        ("event", "waits_for_places"),
        ("killed", 1),
        ("remember", ""),
        *[("reconcile", "fresh")] * 2,
        ("event", "kuberay_cleans"),
        ("reconcile", "stale"),
        *[("reconcile", "fresh")] * 2,
        ("event", "kuberay_starts"),
        ("event", "a_worker_finds_no_place_again"),
        ("event", "waits_for_places"),
    ],
)
@given(
    begun=st.sampled_from(["", "launched", "trains"]),
    workers=st.sampled_from([COUNT, RANGE]),
    steps=st.lists(step, max_size=60),
)
def test_any_order_of_events_leads_to_the_same_end_with_one_writer_at_a_time(
    undisturbed: dict[str, object],
    begun: str,
    workers: dict[str, int],
    steps: list[tuple[str, object]],
) -> None:
    world = a_world(workers=workers)
    if begun:
        until_it_is_launched(world)
    if begun == "trains":
        world.kuberay_starts()
    cached = world.copy()
    for what, how in steps:
        if what == "event":
            getattr(world, str(how))()
        elif what == "remember":
            cached = world.copy()
        elif what == "suspend":
            world.wishes(suspend=bool(how))
        elif what in {"room", "short of places"}:
            assert isinstance(how, int)
            world.room = how
            if what == "short of places":
                world.some_have_no_place()
                world.a_worker_finds_no_place_again()
                world.waits_for_places()
        elif what == "clock":
            assert isinstance(how, int)
            world.clock_jumps(how)
        elif what == "killed":
            assert isinstance(how, int)
            with contextlib.suppress(Killed):
                world.reconcile(killed_at=how)
        else:
            world.reconcile(cached if how == "stale" else None)
        assert len(world.live_writers()) <= 1
    world.wishes(suspend=False)
    world.goes_on_to_its_end()
    assert essence(world) == undisturbed
    numbers = [a["spec"]["number"] for a in world.of("FineTuneAttempt")]
    # (The one that prepared may have been deleted by hand, and nobody needed it any more.)
    first = numbers[0]
    assert first in {0, 1}
    assert numbers == list(range(first, first + len(numbers))), "none is skipped, none is lost"
    plans = [a["spec"]["plan"] for a in world.of("FineTuneAttempt") if "plan" in a["spec"]]
    assert {plan["workers"] for plan in plans} <= ({1, 2, 3} if workers is RANGE else {2})
    assert len({plan["microBatch"] for plan in plans}) == 1, "steps are cut once"


@pytest.mark.parametrize("write", range(12))
def test_a_controller_killed_before_any_of_its_writes_changes_nothing(
    undisturbed: dict[str, object], write: int
) -> None:
    world, seen = a_world(), 0
    for _ in range(40):
        for at in range(3):
            if seen == write:
                with contextlib.suppress(Killed):
                    world.reconcile(killed_at=at)
                seen += 1
                break
            seen += 1
        else:
            world.reconcile()
        world.prepare_pod_ends()
        world.kuberay_starts()
        world.waits()
    world.goes_on_to_its_end()
    assert essence(world) == undisturbed


def every_attempt(world: World, ends: Callable[[], None]) -> None:
    """Whatever is made ends in this way, for half an hour."""
    for _ in range(30):
        world.reconcile()
        world.prepare_pod_ends()
        world.kuberay_starts()
        ends()
        world.kuberay_cleans()
        world.waits()


def test_failures_without_a_new_checkpoint_end_the_job() -> None:
    world = World()
    world.put("FineTuneJob", a_cluster_job(retry={"maxFailures": 1}))
    every_attempt(world, world.fails)
    told = status(world)
    assert told["phase"] == "Failed"
    assert "2 attempts failed without a new checkpoint" in str(told["message"])
    assert len(world.of("RayJob")) == 2


def test_a_failure_after_a_new_checkpoint_is_not_counted_with_the_ones_before() -> None:
    world = World()
    world.put("FineTuneJob", a_cluster_job(retry={"maxFailures": 1}))
    for turn in range(40):
        world.reconcile()
        world.prepare_pod_ends()
        world.kuberay_starts()
        world.progresses()
        if turn < 25:
            world.fails()
        world.kuberay_cleans()
        world.waits()
    assert status(world)["phase"] != "Failed"
    assert len(world.of("RayJob")) > 3


def test_without_kuberay_the_job_says_what_is_missing_and_goes_on_once_it_is_there() -> None:
    world = a_world()
    world.kuberay = False
    for _ in range(5):
        world.reconcile()
        world.prepare_pod_ends()
    assert "install the KubeRay operator" in str(status(world)["message"])
    world.kuberay = True
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"


def test_on_a_kubernetes_that_is_too_old_nothing_is_begun_until_it_is_upgraded() -> None:
    world = a_world()
    world.too_old = "this cluster is Kubernetes 1.30"
    for _ in range(3):
        world.reconcile()
    told = status(world)
    assert (told["phase"], told["message"]) == ("Pending", world.too_old)
    conditions = {c["type"]: c["reason"] for c in told["conditions"]}  # type: ignore[attr-defined]
    assert conditions["Reconciling"] == "KubernetesTooOld"
    assert world.of("FineTuneAttempt") == []
    world.too_old = ""
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"


def test_the_next_attempt_waits_until_the_pods_of_the_last_one_are_gone() -> None:
    world = until_it_trains(a_world())
    world.fails()
    for _ in range(5):
        world.waits()
        world.reconcile()
    assert len(world.of("FineTuneAttempt")) == 2, "the failed driver's pods still run"
    world.kuberay_cleans()
    world.reconcile()
    assert len(world.of("FineTuneAttempt")) == 3


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_clock_that_is_set_makes_nobody_wait_for_days(hours: int) -> None:
    world = until_it_trains(a_world())
    world.fails()
    world.reconcile()
    world.kuberay_cleans()
    world.clock_jumps(hours)
    for _ in range(3):
        world.reconcile()
        world.waits()
    assert len(world.of("FineTuneAttempt")) == 3


def test_clocks_that_differ_by_seconds_shorten_no_pause() -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert waited_since("2026-11-28T11:59:50Z", now) == 10.0
    assert waited_since("2026-11-28T12:00:10Z", now) == -10.0
    assert waited_since("2026-11-28T12:02:00Z", now) == float("inf")
    assert waited_since(None, now) == 0.0


def test_an_attempt_fenced_by_one_that_the_cluster_forgot_is_followed_by_the_next() -> None:
    world = until_it_trains(a_world())
    world.is_fenced()
    world.kuberay_cleans()
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"
    assert [a["spec"]["number"] for a in world.of("FineTuneAttempt")] == [0, 1, 2]


def test_an_attempt_that_is_fenced_again_and_again_ends_the_job() -> None:
    world = World()
    world.put("FineTuneJob", a_cluster_job(retry={"maxFailures": 1}))
    every_attempt(world, world.is_fenced)
    assert status(world)["phase"] == "Failed"
    assert len(world.of("RayJob")) == 2


def test_a_rayjob_that_was_deleted_by_hand_is_not_made_again_but_followed_by_the_next() -> None:
    world = until_it_trains(a_world())
    world.reconcile()
    world.ray_job_is_deleted()
    for _ in range(5):
        world.reconcile()
        world.waits()
    assert [kind for kind, _ in world.created].count("RayJob") == 2
    assert len({name for kind, name in world.created if kind == "RayJob"}) == 2
    assert "its RayJob was deleted" in str(status(world)["attempts"])


def test_facts_that_were_deleted_by_hand_are_made_once_more_before_the_next_attempt() -> None:
    world = until_it_trains(a_world())
    world.preparing_is_deleted()
    world.fails()
    world.kuberay_cleans()
    world.goes_on_to_its_end()
    told = status(world)
    assert (told["phase"], told["run"]) == ("Succeeded", "run-0001")
    assert [kind for kind, _ in world.created].count("Job") == 2, "it prepared twice"
    assert [a["spec"]["number"] for a in world.of("FineTuneAttempt")] == [0, 1, 2]


def test_a_suspended_job_saves_stops_frees_its_pods_and_goes_on_when_it_may() -> None:
    world = until_it_trains(a_world())
    world.progresses()
    world.wishes(suspend=True)
    world.reconcile()
    assert world.of("FineTuneAttempt")[1]["spec"]["command"] == "CheckpointAndStop"
    world.reconcile()
    world.stops_if_asked()
    world.kuberay_cleans()
    for _ in range(3):
        world.reconcile()
        world.waits()
    assert status(world)["phase"] == "Suspended"
    assert not world.live_writers()
    suspended = attempts(world)[1]
    assert (suspended["failure"], suspended["message"]) == ("preempted", "suspended; it was saved")
    world.wishes(suspend=False)
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"
    assert attempts(world)[1] == suspended, "going on tells it no other way"
    assert [a["spec"]["number"] for a in world.of("FineTuneAttempt")] == [0, 1, 2]


def test_a_job_that_is_suspended_while_its_pods_wait_is_not_waited_for() -> None:
    world = a_world()
    for _ in range(5):
        world.reconcile()
        world.prepare_pod_ends()
    world.wishes(suspend=True)
    world.reconcile()
    assert status(world)["phase"] == "Suspended"
    assert world.of("RayJob") == []
    world.wishes(suspend=False)
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"


def test_a_job_that_is_resumed_while_its_rayjob_still_goes_keeps_its_retries() -> None:
    world = World()
    world.put("FineTuneJob", a_cluster_job(retry={"maxFailures": 1}))
    until_it_trains(world)
    world.fails()
    while len(world.of("RayJob")) < 2:
        world.reconcile()
        world.kuberay_cleans()
        world.waits()
    name = world.of("RayJob")[1]["metadata"]["name"]
    world.kuberay_starts()
    going = world.of("RayJob")[1]
    world.wishes(suspend=True)
    world.reconcile()
    assert status(world)["phase"] == "Suspended"
    # Its finalizer holds it: KubeRay still stops what was submitted.
    going["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    world.objects["RayJob", name] = going
    world.wishes(suspend=False)
    for _ in range(4):
        world.reconcile()
    assert status(world)["phase"] == "Launching"
    del world.objects["RayJob", name]
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"


def test_a_job_that_is_suspended_before_it_began_prepares_nothing() -> None:
    world = a_world()
    world.wishes(suspend=True)
    world.reconcile()
    assert status(world)["phase"] == "Suspended"
    assert world.of("FineTuneAttempt") == []
    world.wishes(suspend=False)
    world.goes_on_to_its_end()
    assert status(world)["phase"] == "Succeeded"


@pytest.mark.parametrize("rounds", range(7))
def test_a_cancelled_job_stops_for_good_wherever_it_was(rounds: int) -> None:
    world = a_world()
    for _ in range(rounds):
        world.reconcile()
        world.prepare_pod_ends()
        world.kuberay_starts()
        world.progresses()
    world.wishes(cancel=True)
    for _ in range(5):
        world.reconcile()
        world.stops_if_asked()
        world.kuberay_cleans()
        world.collect_garbage()
        world.waits()
    assert status(world)["phase"] == "Stopped"
    assert "its checkpoints are kept" in str(status(world)["message"])
    assert not world.live_writers()
    made = len(world.created)
    world.goes_on_to_its_end()
    assert len(world.created) == made, "nothing is made for a cancelled job"


def test_out_of_memory_is_tried_once_more_with_a_smaller_micro_batch() -> None:
    world = until_it_trains(a_world())
    world.runs_out_of_memory()
    for _ in range(4):
        world.reconcile()
        world.kuberay_cleans()
        world.waits()
    first, second = (a["spec"]["plan"]["microBatch"] for a in world.of("FineTuneAttempt")[1:])
    assert second == first // 2
    world.kuberay_starts()
    world.runs_out_of_memory()
    for _ in range(4):
        world.reconcile()
        world.kuberay_cleans()
        world.waits()
    assert status(world)["phase"] == "Failed"
    assert len(world.of("RayJob")) == 2


def test_out_of_memory_after_a_checkpoint_fails_because_the_cut_never_changes() -> None:
    world = until_it_trains(a_world())
    world.progresses()
    world.runs_out_of_memory()
    for _ in range(4):
        world.reconcile()
        world.kuberay_cleans()
        world.waits()
    assert status(world)["phase"] == "Failed"
