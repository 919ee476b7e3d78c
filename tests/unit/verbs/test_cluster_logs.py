"""What a job's pods write, and what is told when they are gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.unit.verbs.fake_cluster import FakeClient, attempt, cluster, condition, job, pod
from tunefleet.api.errors import ClusterError
from tunefleet.storage.folder import RunFolder
from tunefleet.storage.store import open_store
from tunefleet.verbs.cluster import logs

FIRST, SECOND = "reviews-7f3a9-1", "reviews-7f3a9-2"
OVER: dict[str, object] = {
    "phase": "Succeeded",
    "message": "finished",
    "conditions": [condition("Succeeded", "True", "Finished")],
}
PODS = (
    pod(f"{FIRST}-x-workers-b", FIRST, ("tunefleet",), "worker"),
    pod(f"{FIRST}-x-workers-a", FIRST, ("tunefleet",), "worker"),
    pod(f"{FIRST}-x-head", FIRST, ("tunefleet", "ray-job-submitter"), "head"),
)


def read(client: FakeClient, **options: Any) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    asyncio.run(logs.logs(cluster(client), "reviews", lambda *line: said.append(line), **options))
    return said


def follow(client: FakeClient, **options: Any) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []

    def say(who: str, line: str) -> None:
        said.append((who, line))

    asyncio.run(logs.follow(cluster(client), "reviews", say, every=0, **options))
    return said


def test_the_driver_speaks_before_the_workers() -> None:
    client = FakeClient(job(phase="Running"), attempt(0), attempt(1), *PODS)
    client.texts = {
        (f"{FIRST}-x-head", "ray-job-submitter"): ["step 1", "step 2"],
        (f"{FIRST}-x-workers-a", "tunefleet"): ["hello of a"],
        (f"{FIRST}-x-workers-b", "tunefleet"): ["hello of b"],
    }
    assert read(client) == [
        ("driver", "step 1"),
        ("driver", "step 2"),
        ("worker-0", "hello of a"),
        ("worker-1", "hello of b"),
    ]


def test_a_submitter_in_a_pod_of_its_own_is_the_driver_too() -> None:
    own = pod(f"{FIRST}-abc", FIRST, ("ray-job-submitter",))
    own[1]["metadata"]["labels"] = {"batch.kubernetes.io/job-name": FIRST}
    client = FakeClient(job(phase="Running"), attempt(1), own)
    client.texts = {(f"{FIRST}-abc", "ray-job-submitter"): ["step 1"]}
    assert read(client) == [("driver", "step 1")]


def test_a_container_without_a_log_says_what_it_waits_for() -> None:
    waiting = pod("reviews-7f3a9-0-abc", "reviews-7f3a9-0", ("tunefleet",), phase="Pending")
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    waiting[1]["status"]["containerStatuses"] = [{"name": "tunefleet", "state": state}]
    said = read(FakeClient(job(phase="Preparing"), attempt(0), waiting))
    assert said[0][0] == "tunefleet"
    assert "prepare has no log" in said[0][1]
    assert "ImagePullBackOff: no such image" in said[0][1]


def test_a_pod_without_a_node_has_an_empty_log_and_a_reason() -> None:
    placed = pod("reviews-7f3a9-0-abc", "reviews-7f3a9-0", ("tunefleet",), phase="Pending")
    lacks = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "cpu"}
    placed[1]["status"]["conditions"] = [lacks]
    client = FakeClient(job(phase="Preparing"), attempt(0), placed)
    client.texts = {("reviews-7f3a9-0-abc", "tunefleet"): []}
    ((who, line),) = read(client)
    assert who == "tunefleet"
    assert line == ("prepare has written nothing (reviews-7f3a9-0-abc: Unschedulable: cpu)")


def test_an_attempt_whose_pods_are_gone_tells_what_it_told() -> None:
    problem = {"message": "no column text", "where": "spec.data.columns", "remedy": "name it"}
    result = {"phase": "Failed", "failure": "data", "message": "refused", "problems": [problem]}
    said = read(FakeClient(job(phase="Failed"), attempt(0, result=result)))
    text = "\n".join(line for _, line in said)
    assert "attempt 0 has no pods (any more)" in text
    assert "Failed: refused" in text
    assert "spec.data.columns: no column text → name it" in text


def kept_attempt(runs: Path) -> tuple[str, dict[str, Any]]:
    """An attempt whose run is in a folder of this machine; its pods are gone."""
    plural, body = attempt(1, result={"phase": "Succeeded", "step": 100})
    manifest = {
        "apiVersion": "tunefleet.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "reviews", "namespace": "research"},
        "spec": {
            "task": "text-classification",
            "model": {"name": "google-bert/bert-base-uncased"},
            "data": {"train": {"uri": "rows.csv"}},
            "checkpoints": {"uri": str(runs)},
        },
    }
    body["spec"] |= {"manifest": manifest, "run": "run-0001"}
    return plural, body


def test_the_driver_of_an_attempt_whose_pods_are_gone_is_heard_from_storage(tmp_path: Path) -> None:
    run = RunFolder(open_store(str(tmp_path), tmp_path), "research", "reviews", "run-0001")
    for number, line in ((1, "the first execution"), (2, "the second")):
        key = run.key("attempts", "0001", "logs", f"driver-{number:04d}.jsonl")
        run.store.put(key, f"{line}\n".encode())
    said = read(FakeClient(job(**OVER), kept_attempt(tmp_path)))
    assert said == [("driver", "the first execution"), ("driver", "the second")]


def test_a_store_that_cannot_be_read_from_here_is_named_and_the_object_tells(
    tmp_path: Path,
) -> None:
    (tmp_path / "runs").write_text("no folder")
    said = read(FakeClient(job(**OVER), kept_attempt(tmp_path / "runs")))
    assert said[0][0] == "tunefleet"
    assert "attempts/0001/logs of the run, cannot be read from here" in said[0][1]
    assert ("tunefleet", "  Succeeded: ended at step 100") in said


def test_the_attempt_that_is_named_is_read() -> None:
    result = {"phase": "Failed", "message": "the first"}
    client = FakeClient(job(phase="Running"), attempt(1, result=result), attempt(2), *PODS)
    client.texts = {(f"{FIRST}-x-head", "ray-job-submitter"): ["of the first"]}
    assert ("driver", "of the first") in read(client, attempt=1)
    with pytest.raises(ClusterError, match="has no attempt 7") as caught:
        read(client, attempt=7)
    assert caught.value.remedy == "there are 1, 2 (0 prepares)"


def test_a_job_without_attempts_says_where_it_stands() -> None:
    with pytest.raises(ClusterError, match="no controller has taken it up yet"):
        read(FakeClient(job()))


def test_following_goes_from_attempt_to_attempt_until_the_job_ends() -> None:
    client = FakeClient(job(phase="Running"), attempt(1), *PODS[2:])
    driver = (f"{FIRST}-x-head", "ray-job-submitter")
    client.texts = {driver: ["step 1"]}

    said: list[tuple[str, str]] = []

    def say(who: str, line: str) -> None:
        said.append((who, line))
        if line == "step 1":
            plural, body = attempt(2)
            client.objects[plural, body["metadata"]["name"]] = body
            plural, body = pod(f"{SECOND}-y-head", SECOND, ("a", "ray-job-submitter"), "head")
            client.objects[plural, body["metadata"]["name"]] = body
            client.texts[f"{SECOND}-y-head", "ray-job-submitter"] = ["step 2"]
        if line == "step 2":
            client.objects["finetunejobs", "reviews"] = job(**OVER)[1]

    asyncio.run(logs.follow(cluster(client), "reviews", say, every=0))
    assert [line for line in said if line[0] == "driver"] == [
        ("driver", "step 1"),
        ("driver", "step 2"),
    ]
    assert said[-1] == ("tunefleet", "reviews: Succeeded: finished")


def test_following_a_job_that_is_over_tells_what_is_left() -> None:
    said = follow(FakeClient(job(**OVER), attempt(1, result={"phase": "Succeeded", "step": 100})))
    assert ("tunefleet", "  Succeeded: ended at step 100") in said
    assert said[-1] == ("tunefleet", "reviews: Succeeded: finished")


def test_following_one_attempt_ends_with_it() -> None:
    client = FakeClient(
        job(phase="Running"), attempt(1, result={"phase": "Failed"}), attempt(2), *PODS[2:]
    )
    client.texts = {(f"{FIRST}-x-head", "ray-job-submitter"): ["step 1"]}
    assert ("driver", "step 1") in follow(client, attempt=1)
