"""A user's commands against a real API server; the controller's part is played.

What is uploaded goes to a real S3 server, and what the definitions refuse is told as they say it.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from tests.cluster.commands import Home, Later, Objects, condition, define, until
from tests.cluster.installed import installed as installed_chart
from tests.cluster.players import players
from tests.testbed.clusters import Cluster
from tests.testbed.ray_job import ray_job
from tests.testbed.s3 import S3Server
from tunefleet.api.errors import ClusterError
from tunefleet.kube.resources import Resource
from tunefleet.render.names import labels
from tunefleet.verbs.cluster.connect import Cluster as Connected
from tunefleet.verbs.cluster.connect import Where, on

ROWS = "text,label\nfine,good\ndull,bad\n"


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    define(cluster)
    return cluster


@pytest.fixture
def home(
    installed: Cluster, namespace: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Home:
    return Home(installed, namespace, capsys, tmp_path)


@pytest.fixture
def job_file(
    tmp_path: Path, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    monkeypatch.setenv("TUNEFLEET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "films.csv").write_text(ROWS)
    path = tmp_path / "job.yaml"
    path.write_text(
        f"""\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: reviews}}
spec:
  task: text-classification
  model: {{name: google-bert/bert-base-uncased}}
  data:
    train: {{uri: films.csv}}
    columns: {{text: text, label: label}}
  checkpoints: {{uri: "{s3_environment.uri(secrets.token_hex(4))}"}}
"""
    )
    yield path


# -- submit ----------------------------------------------------------------------------


def test_submit_uploads_what_is_local_and_applies_what_the_file_says(
    home: Home, job_file: Path, s3: S3Server
) -> None:
    done = home.tunefleet("submit", str(job_file), "--json")
    assert done.code == 0, done.err
    assert done.json["uploadedBytes"] == len(ROWS)
    job = home.get("ftj", "reviews")
    uri = job["spec"]["data"]["train"]["uri"]
    key = uri.removeprefix(s3.uri() + "/")
    assert bytes(obstore.get(s3.client(), key).bytes()) == ROWS.encode()
    managers = {field["manager"] for field in job["metadata"]["managedFields"]}
    assert managers == {"tunefleet-cli"}

    again = home.tunefleet("submit", str(job_file), "--json")
    assert (again.json["made"], again.json["changed"], again.json["uploadedBytes"]) == (
        False,
        False,
        0,
    )


def test_what_may_change_is_changed_and_the_rest_refused_in_the_servers_words(
    home: Home, job_file: Path
) -> None:
    home.tunefleet("submit", str(job_file))
    budget = ("--set", "budget={maxDuration: 2h}")
    assert home.tunefleet("submit", str(job_file), *budget, "--json").json["changed"]
    other = home.tunefleet("submit", str(job_file), *budget, "--set", "training.epochs=9")
    assert other.code == 2
    assert "cannot change while the job is there" in other.err
    assert "→ delete the job and apply it anew, or give it another name" in other.err
    fresh = home.tunefleet("submit", str(job_file), "--fresh-name", "--json")
    assert fresh.json["name"].startswith("reviews-")
    assert home.get("ftj", fresh.json["name"])


def test_a_dry_run_is_what_kubectl_applies(home: Home, job_file: Path) -> None:
    shown = home.tunefleet("submit", str(job_file), "--dry-run")
    assert shown.code == 0, shown.err
    command = ("apply", "--server-side", "--dry-run=server", "-f", "-")
    said = home.cluster.kubectl(*command, "-n", home.namespace, stdin=shown.out)
    assert "reviews serverside-applied" in said
    assert "there are no jobs" in home.tunefleet("status", "reviews").err


def test_a_namespace_that_is_not_there_is_told(home: Home, job_file: Path) -> None:
    nowhere = replace(home, namespace="nowhere-at-all")
    done = nowhere.tunefleet("submit", str(job_file))
    assert done.code == 2
    assert 'namespaces "nowhere-at-all" not found' in done.err


# -- status ----------------------------------------------------------------------------


def test_a_job_is_followed_to_its_end_with_the_exit_code_of_run(home: Home, job_file: Path) -> None:
    home.tunefleet("submit", str(job_file))
    assert "no controller has taken it up yet" in home.tunefleet("status", "reviews").out
    progress = {"step": 40, "totalSteps": 100, "percent": 40, "epoch": 1.0, "workers": 2}
    home.say("ftj", "reviews", phase="Running", message="two workers", progress=progress,
             conditions=[condition("Running", "True", "Training")])  # fmt: skip
    table = home.tunefleet("status")
    assert "40 %" in table.out

    def end() -> None:
        told = [condition("Succeeded", "True", "Finished")]
        home.say("ftj", "reviews", phase="Succeeded", message="finished", conditions=told)

    with Later(end):
        done = home.tunefleet("status", "reviews", "--watch")
    assert done.code == 0
    assert done.err.splitlines()[0].startswith("Running  40 %  step 40/100")
    assert done.err.splitlines()[-1] == "Succeeded  finished"
    where = ("-n", home.namespace)
    home.cluster.kubectl("wait", "--for=condition=Succeeded", "ftj/reviews", *where)
    ended = home.tunefleet("submit", str(job_file))
    assert "is there already and has ended (Succeeded)" in ended.err


@pytest.mark.parametrize(("reason", "code"), [("Stopped", 3), ("Cancelled", 1)])
def test_a_stopped_job_exits_by_its_reason(
    home: Home, job_file: Path, reason: str, code: int
) -> None:
    def stop() -> None:
        told = [condition("Succeeded", "False", reason)]
        home.say("ftj", "reviews", phase="Stopped", conditions=told)

    with Later(stop):
        assert home.tunefleet("submit", str(job_file), "--wait", "--json").code == code


def test_a_wrong_name_gets_the_right_one(home: Home, job_file: Path) -> None:
    home.tunefleet("submit", str(job_file))
    done = home.tunefleet("status", "revews")
    assert done.code == 2
    assert "did you mean `reviews`?" in done.err


def test_a_cluster_without_the_definitions_is_told_apart(installed: Cluster) -> None:
    unknown = Resource("nobody.dev", "v1", "finetunejobs", "FineTuneJob")

    async def look(cluster: Connected) -> object:
        return await cluster.client.get(unknown, "default", "reviews")

    with pytest.raises(ClusterError, match="this cluster knows no FineTuneJob"):
        on(Where(installed.kubeconfig), look)


# -- wishes ----------------------------------------------------------------------------


def test_wishes_reach_the_spec_and_nothing_else(home: Home, job_file: Path) -> None:
    home.tunefleet("submit", str(job_file))
    before = home.get("ftj", "reviews")["spec"]
    for command, field, value in (
        ("suspend", "suspend", True),
        ("resume", "suspend", False),
        ("cancel", "cancel", True),
    ):
        assert home.tunefleet(command, "reviews").code == 0
        before[field] = value
        assert home.get("ftj", "reviews")["spec"] == before
    assert home.tunefleet("submit", str(job_file), "--json").json["changed"] is False
    assert home.tunefleet("delete", "reviews").code == 2
    assert home.tunefleet("delete", "reviews", "--yes").code == 0
    assert home.tunefleet("status", "--json").json["jobs"] == []


def test_who_has_no_right_is_told_which_role_to_ask_for(home: Home) -> None:
    done = home.guest().tunefleet("status")
    assert done.code == 2
    assert f"system:serviceaccount:{home.namespace}:nobody" in done.err
    assert "ask for the role `edit`" in done.err


def test_the_role_edit_is_enough_for_every_command_and_view_to_look(
    home: Home, job_file: Path
) -> None:
    with installed_chart(home.cluster):
        editor, viewer = home.guest("edit"), home.guest("view")
        done = until(lambda: editor.tunefleet("submit", str(job_file), "--json"), "reviews")
        assert json.loads(done)["made"]
        name = home.make_attempt("reviews", 0)
        home.cluster.apply(_waiting_pod(name), namespace=home.namespace)
        for guest in (editor, viewer):
            for command in ("status", "events", "logs"):
                shown = guest.tunefleet(command, "reviews")
                assert shown.code == 0, shown.err
        assert "nothing of reviews runs" in editor.tunefleet("dashboard", "reviews").err
        assert "ask for the role `edit`" in viewer.tunefleet("cancel", "reviews").err
        for command in ("suspend", "resume", "cancel"):
            assert editor.tunefleet(command, "reviews").code == 0
        assert editor.tunefleet("delete", "reviews", "--yes").code == 0


# -- what was said ---------------------------------------------------------------------


def test_logs_and_events_of_an_attempt_whose_pod_never_ran(home: Home, job_file: Path) -> None:
    home.tunefleet("submit", str(job_file))
    assert "has no attempt yet" in home.tunefleet("logs", "reviews").err
    name = home.make_attempt("reviews", 0)
    home.cluster.apply(_waiting_pod(name), namespace=home.namespace)
    shown = until(lambda: home.tunefleet("logs", "reviews"), "Unschedulable")
    assert "[tunefleet] prepare has written nothing" in shown
    shown = until(lambda: home.tunefleet("events", "reviews"), "FailedScheduling")
    assert f"{name}-abc" in shown

    home.cluster.kubectl("delete", "pod", f"{name}-abc", "-n", home.namespace, "--force")
    problem = {"message": "no column text", "file": "films.csv", "line": 1, "remedy": "name it"}
    result = {"phase": "Failed", "failure": "data", "message": "refused", "problems": [problem]}
    home.say("fta", name, result=result)
    shown = home.tunefleet("logs", "reviews", "--attempt", "0").out
    assert "attempt 0 has no pods (any more)" in shown
    assert "films.csv:1: no column text → name it" in shown
    told = home.tunefleet("events", "reviews", "--json").json["events"]
    assert (told[-1]["reason"], told[-1]["type"]) == ("Failed", "Warning")


def test_the_dashboard_of_a_real_ray_cluster_and_its_token(
    kuberay: Cluster, home: Home, job_file: Path
) -> None:
    home.tunefleet("submit", str(job_file))
    name = home.make_attempt("reviews", 1)
    assert "nothing of reviews runs" in home.tunefleet("dashboard", "reviews").err
    with players(kuberay, home.namespace):
        kuberay.apply(_marked(name), namespace=home.namespace)
        shown = until(lambda: home.tunefleet("dashboard", "reviews", "--json"), "token")
    found = json.loads(shown)
    secret = home.get("secret", found["ray_cluster"])
    assert found["token"] == base64.b64decode(secret["data"]["auth_token"]).decode() != ""
    service = next(part for part in found["command"] if part.startswith("service/"))
    ports = home.get("service", service.removeprefix("service/"))["spec"]["ports"]
    assert 8265 in {port["port"] for port in ports}


def _marked(name: str) -> Objects:
    """A RayJob whose head says which attempt it belongs to."""
    body: Objects = ray_job(name, "localhost/none:1", "SidecarMode")
    template = body["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    template["metadata"] = {"labels": labels("reviews", name)}
    return body


def _waiting_pod(attempt: str) -> Objects:
    """A pod of an attempt for which there is no node."""
    container = {"name": "tunefleet", "image": "localhost/none:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{attempt}-abc", "labels": labels("reviews", attempt)},
        "spec": {"containers": [container], "nodeSelector": {"nobody": "has-this"}},
    }
