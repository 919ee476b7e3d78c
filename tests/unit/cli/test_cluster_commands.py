"""The commands of a cluster: that each calls its verb and ends as it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.verbs.fake_cluster import FakeClient, attempt, condition, job, pod
from tests.unit.verbs.test_cluster_submit import JOB
from tunefleet.cli.main import run_command
from tunefleet.kube.client import Client

FIRST = "reviews-7f3a9-1"
Cluster = Callable[..., FakeClient]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    def with_objects(*objects: Any) -> FakeClient:
        client = FakeClient(*objects)

        async def connect(*_: object, **__: object) -> FakeClient:
            return client

        monkeypatch.setattr(Client, "connect", connect)
        return client

    return with_objects


def ended(phase: str, reason: str) -> dict[str, object]:
    truth = "True" if phase == "Succeeded" else "False"
    return {"phase": phase, "conditions": [condition("Succeeded", truth, reason)]}


def test_status_lists_jobs_and_shows_one(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster(job(phase="Running", message="two workers"))
    assert run_command(["status"]) == 0
    assert "two workers" in capsys.readouterr().out
    assert run_command(["status", "reviews", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["phase"] == "Running"
    assert run_command(["status", "revews"]) == 2
    assert "did you mean `reviews`?" in capsys.readouterr().err
    assert run_command(["status", "--watch"]) == 2


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (ended("Succeeded", "Finished"), 0),
        (ended("Failed", "AttemptFailed"), 1),
        (ended("Stopped", "Stopped"), 3),
    ],
    ids=["0 for a success", "1 for a failure", "3 for a spent budget"],
)
def test_a_watched_job_gives_the_exit_code(
    cluster: Cluster, told: dict[str, object], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster(job(**told))
    assert run_command(["status", "reviews", "--watch", "--json"]) == code
    shown = capsys.readouterr()
    assert json.loads(shown.out)["phase"] == json.loads(shown.err)["phase"] == told["phase"]


def test_submit_says_what_comes_next_and_waits_if_asked(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("films.csv", '"s3://a/films.csv"'))
    client = cluster()
    assert run_command(["submit", str(path)]) == 0
    assert "next: tunefleet status -n research reviews --watch" in capsys.readouterr().out
    assert run_command(["submit", str(path), "--dry-run"]) == 0
    assert 'uri: "s3://a/films.csv"' in capsys.readouterr().out
    assert run_command(["submit", str(path), "--dry-run", "--json"]) == 2
    assert len(client.written) == 1
    apply = client.apply

    async def at_once(*given: Any, **named: Any) -> Any:
        answer = await apply(*given, **named)
        client.objects["finetunejobs", "reviews"] = job(**ended("Failed", "InputRefused"))[1]
        return answer

    client.apply = at_once  # type: ignore[method-assign]
    capsys.readouterr()
    assert run_command(["submit", str(path), "--wait", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["phase"] == "Failed"


def test_a_refused_file_is_told_with_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(JOB.replace("s3://models/runs/", "runs"))
    assert run_command(["submit", str(path)]) == 2
    assert f"{path}:10: spec.checkpoints.uri: `runs` lies in no object store" in (
        capsys.readouterr().err
    )


def test_logs_carry_the_name_of_who_wrote_them(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    client = cluster(
        job(**ended("Succeeded", "Finished")),
        attempt(1, result={"phase": "Succeeded"}),
        pod(f"{FIRST}-head", FIRST, ("ray-job-submitter",), "head"),
    )
    client.texts = {(f"{FIRST}-head", "ray-job-submitter"): ["step 1"]}
    assert run_command(["logs", "reviews"]) == 0
    assert capsys.readouterr().out == "[driver] step 1\n"
    assert run_command(["logs", "reviews", "--follow"]) == 0
    assert capsys.readouterr().out == "[driver] step 1\n[tunefleet] reviews: Succeeded\n"


def test_events_are_shown_and_given_as_json(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster(job(), attempt(1, events=[{"kind": "checkpoint", "message": "saved step 25"}]))
    assert run_command(["events", "reviews"]) == 0
    assert "saved step 25" in capsys.readouterr().out
    assert run_command(["events", "reviews", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"][0]["reason"] == "checkpoint"


@pytest.mark.parametrize(
    ("command", "wish"),
    [("cancel", {"cancel": True}), ("suspend", {"suspend": True})],
)
def test_a_wish_is_told_and_an_ended_job_refused(
    command: str,
    wish: dict[str, bool],
    cluster: Cluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = cluster(job(phase="Running"))
    assert run_command([command, "reviews", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True
    assert client.written == [("patch", "reviews", {"spec": wish})]
    cluster(job(**ended("Succeeded", "Finished")))
    assert run_command([command, "reviews"]) == 2
    assert f"there is nothing to {command}" in capsys.readouterr().err


def test_a_job_that_is_not_suspended_is_not_resumed(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    client = cluster(job(phase="Running"))
    assert run_command(["resume", "reviews"]) == 0
    assert "reviews is not suspended" in capsys.readouterr().out
    assert client.written == []


def test_a_job_that_has_not_ended_is_deleted_only_with_a_yes(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    client = cluster(job(phase="Running"))
    assert run_command(["delete", "reviews"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert client.written == []
    assert run_command(["delete", "reviews", "--yes"]) == 0
    assert "its runs stay in s3://models/runs/research/reviews" in capsys.readouterr().out
    cluster(job(**ended("Failed", "InputRefused")))
    assert run_command(["delete", "reviews"]) == 0


def test_a_dashboard_of_nothing_is_refused(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster(job(phase="Preparing", message="checking data"), attempt(0))
    assert run_command(["dashboard", "reviews"]) == 2
    said = capsys.readouterr().err
    assert "nothing of reviews runs, so there is no dashboard (Preparing: checking data)" in said


@pytest.mark.parametrize(
    "command",
    ["submit", "status", "logs", "events", "cancel", "suspend", "resume", "delete", "dashboard"],
)
def test_every_help_has_examples_and_names_the_same_with_kubectl(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"  tunefleet {command} " in shown
    assert "  kubectl " in shown
    assert "--namespace" in shown
    assert "--kubeconfig" in shown
