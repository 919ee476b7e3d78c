"""What the jobs of a namespace have of a profile's GPUs, and who waits for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.controller.world import World, a_cluster_job
from tests.unit.kube.virtual_time import run
from tunefleet.api.profile import ProfileSpec
from tunefleet.controller.gpus import PROMISE_SECONDS, GpusInUse
from tunefleet.controller.seen import AttemptSeen, JobSeen, job_seen
from tunefleet.render.names import JOB_LABEL


def a_job(name: str, phase: str = "Running") -> JobSeen:
    metadata = {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1"}
    return job_seen(json.dumps({"metadata": metadata, "status": {"phase": phase}}).encode())


def an_attempt(
    job: str, number: int = 1, *, gpus: int = 2, profile: str | None = "l4"
) -> dict[str, Any]:
    owner = {"uid": job, "controller": True}
    metadata = {
        "name": f"{job}-{number}",
        "namespace": "team",
        "uid": f"{job}-{number}",
        "resourceVersion": "1",
        "labels": {JOB_LABEL: job},
        "ownerReferences": [owner],
    }
    spec = {
        "number": number,
        "stage": "Train",
        "manifest": {"spec": {} if profile is None else {"profile": profile}},
        "plan": {"workers": gpus or 1, "device": "cuda" if gpus else "cpu"},
    }
    return {"metadata": metadata, "spec": spec}


def seen(attempt: dict[str, Any]) -> AttemptSeen:
    return AttemptSeen.model_validate_json(json.dumps(attempt).encode())


def of_others(*jobs: JobSeen, attempts: list[dict[str, Any]]) -> int:
    """What a new job finds in use."""

    async def main() -> int:
        gpus = GpusInUse()
        for job in jobs:
            gpus.job_changed(None, job)
        for attempt in attempts:
            gpus.changed(None, seen(attempt))
        return gpus.of_others("team", "l4", "new")

    return run(main())


@pytest.mark.parametrize(
    ("phase", "counts"),
    [
        ("Preparing", True),
        ("Queued", True),
        ("Launching", True),
        ("Running", True),
        ("Evaluating", True),
        ("Pending", False),
        ("Suspended", False),
        ("Succeeded", False),
        ("Stopped", False),
        ("Failed", False),
    ],
)
def test_a_job_counts_while_it_trains_or_is_about_to(phase: str, counts: bool) -> None:
    assert of_others(a_job("a", phase), attempts=[an_attempt("a")]) == (2 if counts else 0)


def test_jobs_are_added_up_each_once() -> None:
    attempts = [an_attempt("a", 1), an_attempt("a", 2), an_attempt("b", gpus=3)]
    assert of_others(a_job("a"), a_job("b"), attempts=attempts) == 5


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(an_attempt("a", profile=None), id="without a profile"),
        pytest.param(an_attempt("a", profile="a100"), id="of another profile"),
        pytest.param(an_attempt("a", gpus=0), id="without a GPU"),
        pytest.param(an_attempt("new"), id="its own"),
        pytest.param(an_attempt("gone"), id="of a job that is gone"),
    ],
)
def test_what_does_not_count(attempt: dict[str, Any]) -> None:
    assert of_others(a_job("a"), a_job("new"), attempts=[attempt]) == 0


def test_what_was_decided_counts_before_any_event_tells_of_it() -> None:
    async def main() -> list[int]:
        gpus = GpusInUse()
        held = a_job("a", "Pending")
        gpus.job_changed(None, held)
        gpus.promise(held, an_attempt("a"))
        found = [gpus.of_others("team", "l4", "new")]
        gpus.changed(None, seen(an_attempt("a")))
        found.append(gpus.of_others("team", "l4", "new"))
        gpus.job_changed(held, a_job("a", "Running"))
        await asyncio.sleep(PROMISE_SECONDS + 1)
        found.append(gpus.of_others("team", "l4", "new"))
        gpus.changed(seen(an_attempt("a")), None)
        return [*found, gpus.of_others("team", "l4", "new")]

    assert run(main()) == [2, 2, 2, 0]


def test_what_was_decided_and_refused_counts_no_longer_after_a_while() -> None:
    async def main() -> list[int]:
        gpus = GpusInUse()
        job = a_job("a", "Launching")
        gpus.job_changed(None, job)
        gpus.promise(job, an_attempt("a"))
        before = gpus.of_others("team", "l4", "new")
        await asyncio.sleep(PROMISE_SECONDS + 1)
        return [before, gpus.of_others("team", "l4", "new")]

    assert run(main()) == [2, 0]


def test_a_job_that_is_deleted_counts_no_longer() -> None:
    async def main() -> list[int]:
        gpus = GpusInUse()
        gpus.job_changed(None, a_job("a"))
        gpus.changed(None, seen(an_attempt("a")))
        before = gpus.of_others("team", "l4", "new")
        gpus.job_changed(a_job("a"), None)
        return [before, gpus.of_others("team", "l4", "new")]

    assert run(main()) == [2, 0]


def test_a_job_waits_until_others_have_given_back_what_it_needs() -> None:
    world = World()
    world.profile = ProfileSpec.model_validate(
        {
            "resources": {"gpu": 1},
            "accelerator": {"name": "L4", "memory": "24Gi"},
            "limits": {"maxGpusPerNamespace": 4},
        }
    )
    world.put("FineTuneJob", a_cluster_job(profile="l4"))
    world.gpus_of_others = 3
    for _ in range(8):
        world.reconcile()
        world.prepare_pod_ends()
    (told,) = (job["status"] for job in world.of("FineTuneJob"))
    accepted = next(c for c in told["conditions"] if c["type"] == "Accepted")
    assert (told["phase"], accepted["status"]) == ("Pending", "False")
    assert accepted["reason"] == "NamespaceLimit"
    assert "allows 4 to all jobs of the namespace" in accepted["message"]
    assert len(world.of("FineTuneAttempt")) == 1, "it was prepared, which needs no GPU"
    world.gpus_of_others = 2
    world.goes_on_to_its_end()
    (told,) = (job["status"] for job in world.of("FineTuneJob"))
    accepted = next(c for c in told["conditions"] if c["type"] == "Accepted")
    assert (told["phase"], accepted["status"]) == ("Succeeded", "True")
