"""What the caches keep is all that was seen, and little."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.controller.world import World, a_cluster_job
from tunefleet.controller.main import JSON_DEPTH
from tunefleet.controller.seen import (
    AttemptSeen,
    PodSeen,
    PrepareJobSeen,
    RayJobSeen,
    Seen,
    job_seen,
    workload_seen,
)

READ: dict[str, Callable[[bytes], Seen]] = {
    "FineTuneJob": job_seen,
    "FineTuneAttempt": AttemptSeen.read,
    "Job": PrepareJobSeen.read,
    "RayJob": RayJobSeen.read,
    "Pod": PodSeen.read,
}


def all_objects() -> list[tuple[str, dict[str, Any]]]:
    """Every object of a life that failed once, in every state that it was in."""
    world, found = World(), []
    world.put("FineTuneJob", a_cluster_job())
    acts = [world.prepare_pod_ends, world.kuberay_starts, world.progresses, world.fails]
    for act in [*acts, *acts, world.kuberay_starts, world.progresses, world.finishes]:
        for _ in range(4):
            world.reconcile()
            found += [(key[0], value) for key, value in world.copy().items()]
        act()
    return found


def test_what_is_packed_comes_out_as_it_went_in() -> None:
    kinds = set()
    for kind, found in all_objects():
        found["metadata"]["resourceVersion"] = found["metadata"].get("resourceVersion", "1")
        seen = READ[kind](json.dumps(found).encode())
        assert type(seen).unpacked(seen.packed()) == seen
        kinds.add(kind)
    assert kinds == READ.keys(), "each kind was there"


def test_what_is_passed_over_says_nothing_of_what_is_read() -> None:
    for kind, found in all_objects():
        metadata = found["metadata"]
        metadata["resourceVersion"] = metadata.get("resourceVersion", "1")
        body = json.dumps(found).encode()
        seen = READ[kind](body)
        assert seen == type(seen).model_validate_json(body)
        metadata["managedFields"] = [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:a": {}}}}]
        found["spec"] = {"neverHeardOf": [{"a": None}], **found.get("spec", {})}
        assert READ[kind](json.dumps(found).encode()) == seen


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Nonsense"},
        {"phase": "Running", "progress": {"step": 3, "loss": None, "eta": "12:03"}},
        {"evaluation": {"metric": "accuracy", "metrics": {"accuracy": 0.1 + 0.2}}},
    ],
    ids=["a status that somebody spoilt", "a loss that is not known", "a long fraction"],
)
def test_a_status_is_kept_to_the_last_digit(status: dict[str, object]) -> None:
    metadata = {"name": "a", "namespace": "team", "uid": "u", "resourceVersion": "1"}
    seen = job_seen(json.dumps({"metadata": metadata, "status": status}).encode())
    assert type(seen).unpacked(seen.packed()) == seen


def test_a_workload_is_kept_with_its_rayjob() -> None:
    owner = {"uid": "u", "kind": "RayJob", "name": "ours", "controller": True}
    metadata = {"name": "w", "uid": "w", "resourceVersion": "1", "ownerReferences": [owner]}
    told = {"type": "QuotaReserved", "status": "False", "message": "no quota für uns"}
    body = {"metadata": metadata, "status": {"conditions": [told]}}
    seen = workload_seen(json.dumps(body).encode())
    kept = type(seen).unpacked(seen.packed())
    assert (kept, kept.ray_job) == (seen, "ours")


METADATA = {"name": "a", "namespace": "team", "uid": "u", "resourceVersion": "1"}


def an_attempt(status: str) -> bytes:
    spec = {"number": 1, "stage": "Train"}
    head = json.dumps({"metadata": METADATA, "spec": spec})
    return f'{head[:-1]}, "status": {status}}}'.encode()


def test_a_word_that_only_a_newer_image_knows_does_not_hide_the_others() -> None:
    result = {"phase": "Succeeded", "step": 7, "energy": {"joules": 3}}
    progress = {
        "phase": "Running",
        "step": 7,
        "totalSteps": 9,
        "epoch": 0.7,
        "epochs": 1,
        "workers": 2,
    }
    said = {"progress": progress | {"mood": "good"}, "result": result}
    seen = AttemptSeen.read(an_attempt(json.dumps(said)))
    assert seen.status.result is not None and seen.status.result.step == 7
    assert seen.status.progress is not None and seen.status.progress.step == 7
    assert AttemptSeen.unpacked(seen.packed()) == seen


@pytest.mark.parametrize("wish", ["suspend", "cancel"])
def test_a_spoilt_status_does_not_hide_what_is_asked_for(wish: str) -> None:
    body = {"metadata": METADATA, "spec": {wish: True}, "status": {"phase": "Nonsense"}}
    seen = job_seen(json.dumps(body).encode())
    assert getattr(seen.spec, wish)
    assert seen.status == type(seen.status)(), "nothing of it"


def test_what_a_pod_says_as_deep_as_the_server_lets_it_is_passed_over() -> None:
    deep = 9_000
    facts = '{"a":' * deep + "1" + "}" * deep
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(JSON_DEPTH)
    try:
        seen = AttemptSeen.read(an_attempt(f'{{"run": "run-0001", "facts": {facts}}}'))
    finally:
        sys.setrecursionlimit(limit)
    assert seen.status.run == "run-0001"
