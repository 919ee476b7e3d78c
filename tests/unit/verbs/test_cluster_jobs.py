"""Status, changes, events and the dashboard of jobs on a cluster of a few objects."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from tests.unit.verbs.fake_cluster import (
    BEGAN,
    FakeClient,
    attempt,
    cluster,
    condition,
    job,
    metadata,
    pod,
)
from tunefleet.api.errors import ClusterError
from tunefleet.kube.errors import ApiError
from tunefleet.verbs.cluster import change, dashboard, events, jobs, status
from tunefleet.verbs.cluster.status import JobStatusResult, JobTable

PROGRESS = {
    "step": 40,
    "totalSteps": 100,
    "percent": 40,
    "epoch": 1.2,
    "loss": 0.5,
    "eta": "12:03",
    "checkpointStep": 25,
    "workers": 2,
}
RUNNING: dict[str, object] = {
    "phase": "Running",
    "message": "two workers",
    "conditions": [condition("Running", "True", "Training")],
    "progress": PROGRESS,
}


def ended(phase: str, reason: str) -> dict[str, object]:
    truth = "True" if phase == "Succeeded" else "False"
    return {"phase": phase, "conditions": [condition("Succeeded", truth, reason)]}


def text_of(shown: JobStatusResult | JobTable | events.EventList) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown.render(console)
    console.file.close()
    return console.export_text()


# -- status ----------------------------------------------------------------------------


def test_the_table_has_every_job_with_how_far_it_is() -> None:
    client = FakeClient(job("reviews", **RUNNING), job("other", "uid-2"))
    table = asyncio.run(status.list_jobs(cluster(client)))
    shown = text_of(table)
    assert "40 %" in shown
    assert "12:03" in shown
    assert {found.name for found in table.jobs} == {"reviews", "other"}


def test_an_empty_namespace_says_what_to_do() -> None:
    shown = text_of(asyncio.run(status.list_jobs(cluster(FakeClient()))))
    assert "no jobs in the namespace research; next: tunefleet submit" in shown


def test_one_job_shows_conditions_attempts_metrics_and_bundle() -> None:
    told = {
        **ended("Succeeded", "Finished"),
        "message": "finished at step 100",
        "attempts": [{"name": "reviews-7f3a9-1", "number": 1, "phase": "Succeeded", "step": 100}],
        "progress": PROGRESS,
        "evaluation": {"metric": "accuracy", "best": 0.91, "metrics": {"accuracy": 0.9052}},
        "bundle": {"uri": "s3://models/runs/bundle/abc", "digest": "sha256:abc"},
        "report": "s3://models/runs/report",
    }
    shown = text_of(asyncio.run(status.show_job(cluster(FakeClient(job(**told))), "reviews")))
    for part in (
        "finished at step 100",
        "━",
        "step 40/100",
        "saved at 25",
        "Finished",
        "0.905",
        "bundle: s3://models/runs/bundle/abc",
        "next: tunefleet predict s3://models/runs/bundle/abc",
    ):
        assert part in shown


def test_a_job_that_nobody_took_up_says_so() -> None:
    shown = text_of(asyncio.run(status.show_job(cluster(FakeClient(job())), "reviews")))
    assert "no controller has taken it up yet" in shown


@pytest.mark.parametrize(
    ("told", "code"),
    [
        pytest.param(ended("Succeeded", "Finished"), 0, id="a success exits with 0"),
        pytest.param(ended("Failed", "TooManyFailures"), 1, id="a failure with 1"),
        pytest.param(ended("Stopped", "Stopped"), 3, id="a spent budget with 3"),
        pytest.param(ended("Stopped", "Cancelled"), 1, id="a cancelled job with 1"),
    ],
)
def test_watching_ends_as_the_job_does(told: dict[str, object], code: int) -> None:
    client = FakeClient(job(**RUNNING))
    said: list[str] = []

    def say(found: JobStatusResult) -> None:
        said.append(found.phase)
        if not found.final:
            client.objects["finetunejobs", "reviews"]["status"] = told

    found = asyncio.run(status.watch_job(cluster(client), "reviews", say, every=0))
    assert found.exit_code == code
    assert said == ["Running", told["phase"]]


def test_an_api_server_that_is_away_for_a_while_is_waited_for() -> None:
    client = FakeClient(job(**RUNNING))

    def say(found: JobStatusResult) -> None:
        client.fails = [ApiError(0, "Unreachable", "gone"), ApiError(503, "", "starting")]
        client.objects["finetunejobs", "reviews"]["status"] = ended("Succeeded", "Finished")

    found = asyncio.run(status.watch_job(cluster(client), "reviews", say, every=0))
    assert found.exit_code == 0
    client.fails = [ApiError(0, "Unreachable", "gone")] * 9
    with pytest.raises(ApiError, match="gone"):
        asyncio.run(status.watch_job(cluster(client), "reviews", say, every=0, silent=0))


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and made anew"])
def test_a_job_that_is_deleted_while_watched_is_told(again: bool) -> None:
    client = FakeClient(job(**RUNNING))

    def say(found: JobStatusResult) -> None:
        del client.objects["finetunejobs", "reviews"]
        if again:
            client.objects["finetunejobs", "reviews"] = job("reviews", "another", **RUNNING)[1]

    with pytest.raises(ClusterError, match="was deleted meanwhile"):
        asyncio.run(status.watch_job(cluster(client), "reviews", say, every=0))


def test_an_unknown_job_gets_the_nearest_name() -> None:
    with pytest.raises(ClusterError) as caught:
        asyncio.run(jobs.job(cluster(FakeClient(job("reviews"))), "review"))
    assert caught.value.message == "there is no job 'review' in the namespace research"
    assert caught.value.remedy == "did you mean `reviews`?"


def test_a_missing_kind_is_not_taken_for_a_missing_job() -> None:
    client = FakeClient()
    client.fails = [ApiError(404, "NotFound", "404 page not found")]
    with pytest.raises(ApiError):
        asyncio.run(jobs.job(cluster(client), "reviews"))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(45, "45s"), (119, "119s"), (720, "12m"), (11_000, "3h"), (200_000, "2d")],
)
def test_ages_are_written_as_kubectl_does(seconds: int, shown: str) -> None:
    began = datetime.fromisoformat(BEGAN).timestamp()
    assert jobs.age(BEGAN, datetime.fromtimestamp(began + seconds, UTC)) == shown


# -- changes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "before", "wish", "says"),
    [
        pytest.param(
            change.cancel, {}, {"cancel": True}, "saves a checkpoint and stops", id="cancel"
        ),
        pytest.param(
            change.suspend, {}, {"suspend": True}, "tunefleet resume reviews", id="suspend"
        ),
        pytest.param(
            change.resume,
            {"suspend": True},
            {"suspend": False},
            "goes on from step 25",
            id="resume",
        ),
    ],
)
def test_a_wish_is_one_patch_of_the_spec(
    verb: Any, before: dict[str, bool], wish: dict[str, bool], says: str
) -> None:
    client = FakeClient(job(**RUNNING))
    client.objects["finetunejobs", "reviews"]["spec"].update(before)
    done = asyncio.run(verb(cluster(client), "reviews"))
    assert done.changed
    assert says in done.message
    assert client.written == [("patch", "reviews", {"spec": wish})]
    again = asyncio.run(verb(cluster(client), "reviews"))
    assert not again.changed
    assert len(client.written) == 1


@pytest.mark.parametrize("verb", [change.cancel, change.suspend, change.resume])
def test_nothing_is_wished_of_a_job_that_has_ended(verb: Any) -> None:
    client = FakeClient(job(**ended("Succeeded", "Finished")))
    with pytest.raises(ClusterError, match="has ended \\(Succeeded\\): there is nothing to"):
        asyncio.run(verb(cluster(client), "reviews"))
    assert client.written == []


def test_deleting_takes_this_very_job_and_says_what_stays() -> None:
    client = FakeClient(job(**RUNNING))
    assert not asyncio.run(change.is_ended(cluster(client), "reviews"))
    done = asyncio.run(change.delete(cluster(client), "reviews"))
    assert done.message == "reviews is deleted; its runs stay in s3://models/runs/research/reviews"
    assert client.written == [("delete", "reviews", {"uid": "7f3a90c1-aaaa"})]


# -- events ----------------------------------------------------------------------------


def event(kind: str, name: str, reason: str, time: str) -> tuple[str, dict[str, Any]]:
    body = {
        "metadata": {"name": f"{name}-{reason}"},
        "regarding": {"kind": kind, "name": name},
        "reason": reason,
        "note": f"{reason} of {name}",
        "type": "Normal",
        "eventTime": time,
    }
    return "events", body


def test_events_are_told_by_attempt_the_clusters_first_and_no_others() -> None:
    said = [{"kind": "checkpoint", "message": "saved step 25", "step": 25}]
    result = {"phase": "Failed", "failure": "hung", "message": "no step for 10 min", "step": 30}
    client = FakeClient(
        job(**RUNNING),
        attempt(0, result={"phase": "Succeeded"}),
        attempt(1, events=said, result=result),
        attempt(1, owner="an earlier job"),
        event("Pod", "reviews-7f3a9-1-abc-head", "Started", "2026-11-01T10:01:30.000000Z"),
        event("RayJob", "reviews-7f3a9-1", "Created", "2026-11-01T10:01:10.000000Z"),
        event("FineTuneJob", "reviews", "Accepted", "2026-11-01T10:00:01Z"),
        event("Pod", "reviews-7f3a9-10-x", "Foreign", "2026-11-01T10:01:30Z"),
        event("FineTuneJob", "reviews", "Earlier", "2026-10-01T10:00:01Z"),
    )
    client.objects["finetuneattempts", "reviews-7f3a9-1"] = attempt(1, events=said, result=result)[
        1
    ]
    found = asyncio.run(events.events(cluster(client), "reviews"))
    assert [(each.attempt, each.reason) for each in found.events] == [
        (0, "Accepted"),
        (0, "Succeeded"),
        (1, "Created"),
        (1, "Started"),
        (1, "checkpoint"),
        (1, "Failed"),
    ]
    shown = text_of(found)
    assert "saved step 25" in shown
    assert "no step for 10 min" in shown


def test_without_events_it_is_said_why() -> None:
    found = asyncio.run(events.events(cluster(FakeClient(job())), "reviews"))
    assert "keeps its own for about an hour" in text_of(found)


# -- dashboard -------------------------------------------------------------------------


RAY_CLUSTER = "reviews-7f3a9-1-x2x4z"


def head(phase: str) -> tuple[str, dict[str, Any]]:
    made = pod(f"{RAY_CLUSTER}-head", "reviews-7f3a9-1", ("tunefleet",), "head", phase)
    made[1]["metadata"]["labels"]["ray.io/cluster"] = RAY_CLUSTER
    return made


def service(name: str, port: int) -> tuple[str, dict[str, Any]]:
    own = metadata(name, f"uid-{name}") | {"labels": {"ray.io/cluster": RAY_CLUSTER}}
    return "services", {"metadata": own, "spec": {"ports": [{"port": port}]}}


def secret() -> tuple[str, dict[str, Any]]:
    token = base64.b64encode(b"open sesame").decode()
    return "secrets", {
        "metadata": metadata(RAY_CLUSTER, "secret"),
        "data": {"auth_token": token},
    }


@pytest.mark.parametrize(
    ("services", "name"),
    [
        pytest.param((), f"{RAY_CLUSTER}-head-svc", id="by the name that KubeRay gives"),
        pytest.param(
            (service("workers", 8080), service("cut-head-svc", 8265)),
            "cut-head-svc",
            id="by its port, where KubeRay had to cut the name",
        ),
    ],
)
def test_the_dashboard_of_the_running_attempt_with_its_token(services: Any, name: str) -> None:
    client = FakeClient(
        job(**RUNNING), attempt(0), attempt(1), head("Running"), secret(), *services
    )
    found = asyncio.run(dashboard.find(cluster(client), "reviews", port=9000))
    assert found.token == "open sesame"
    assert found.url == "http://127.0.0.1:9000"
    assert " ".join(found.command) == (f"kubectl port-forward -n research service/{name} 9000:8265")


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param((), id="no attempt"),
        pytest.param((attempt(0),), id="preparing"),
        pytest.param((attempt(0), attempt(1)), id="no pod yet"),
        pytest.param((attempt(1), head("Pending")), id="a head that waits"),
        pytest.param((attempt(1), head("Succeeded")), id="a head that has ended"),
        pytest.param((attempt(1, result={"phase": "Failed"}), head("Running")), id="an ended one"),
    ],
)
def test_without_anything_that_runs_there_is_no_dashboard(objects: Any) -> None:
    client = FakeClient(job(**RUNNING), *objects)
    with pytest.raises(ClusterError, match="nothing of reviews runs, so there is no dashboard"):
        asyncio.run(dashboard.find(cluster(client), "reviews"))
