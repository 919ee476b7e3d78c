"""A node that stops without a word: told, and not waited for without end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.controller.world import World, a_cluster_job
from tunefleet.controller.jobs import silence
from tunefleet.controller.seen import PodSeen, RayJobSeen

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
CLUSTER = "rays"
HEAD = {"ray.io/cluster": CLUSTER, "ray.io/node-type": "head"}
WORKER = {"ray.io/cluster": CLUSTER, "ray.io/node-type": "worker"}
MARKED = {"type": "Ready", "status": "False"}
STARTING = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}
TAKEN_OFF = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def a_pod(
    name: str = "p",
    *conditions: dict[str, str],
    labels: dict[str, str] = HEAD,
    phase: str = "Running",
    past: float | None = None,
    node: str = "node-7",
) -> PodSeen:
    """``past``: seconds since its grace time ended."""
    going = {} if past is None else {"deletionTimestamp": stamp(NOW - timedelta(seconds=past))}
    metadata = {"name": name, "uid": name, "resourceVersion": "1", "labels": labels, **going}
    status = {"phase": phase, "conditions": list(conditions)}
    body = {"metadata": metadata, "spec": {"nodeName": node}, "status": status}
    return PodSeen.model_validate_json(json.dumps(body))


def a_ray_job(stage: str = "Running", cluster: str = CLUSTER) -> RayJobSeen:
    status = {"jobDeploymentStatus": stage, "rayClusterName": cluster}
    metadata = {"name": "r", "uid": "r", "resourceVersion": "1"}
    return RayJobSeen.model_validate_json(json.dumps({"metadata": metadata, "status": status}))


@pytest.mark.parametrize(
    ("pod", "gone"),
    [
        pytest.param(a_pod(), False, id="runs"),
        pytest.param(a_pod(phase="Failed"), True, id="has ended"),
        pytest.param(a_pod(past=-10), False, id="is in its grace time"),
        pytest.param(a_pod("p", MARKED, past=300), False, id="is silent, and not for long"),
        pytest.param(a_pod("p", MARKED, past=601), True, id="is silent for ten minutes"),
        pytest.param(a_pod("p", TAKEN_OFF, past=30), False, id="taken off a moment ago"),
        pytest.param(a_pod("p", TAKEN_OFF, past=61), True, id="taken off by Kubernetes"),
    ],
)
def test_a_pod_is_waited_for(pod: PodSeen, gone: bool) -> None:
    assert silence.gone(pod, NOW) == gone


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        pytest.param([a_pod(), a_pod("q", STARTING)], "", id="one that starts is not silent"),
        pytest.param(
            [a_pod(), a_pod("q", MARKED)],
            "node-7 is silent or not ready, with 1 of 2 pods",
            id="one that Kubernetes marked is",
        ),
        pytest.param(
            [a_pod(past=61, node="b"), a_pod("q", MARKED, node="a")],
            "a, b are silent or not ready, with 2 of 2 pods",
            id="one that did not end is too",
        ),
        pytest.param(
            [a_pod(str(n), MARKED, node=f"n{n}") for n in range(5)],
            "n0, n1, n2 and 2 more nodes are silent or not ready, with 5 of 5 pods",
            id="many are counted",
        ),
        pytest.param([a_pod(past=61, node="")], "", id="a pod without a node has none"),
    ],
)
def test_which_nodes_are_silent(pods: list[PodSeen], said: str) -> None:
    assert silence.told(pods, NOW) == said


@pytest.mark.parametrize(
    ("pod", "begun", "over"),
    [
        pytest.param(a_pod(past=61), True, True, id="without its head"),
        pytest.param(a_pod(labels=WORKER, past=61), True, True, id="without a worker"),
        pytest.param(a_pod(past=30), True, False, id="not while it may still be told"),
        pytest.param(a_pod(labels={}, past=61), False, True, id="without the pod that submits"),
        pytest.param(a_pod(labels={}, past=61), True, False, id="which is not needed later"),
        pytest.param(
            a_pod(labels=HEAD | {"ray.io/cluster": "before"}, past=61),
            True,
            False,
            id="not for a pod of the RayCluster before",
        ),
    ],
)
def test_an_attempt_is_over(pod: PodSeen, begun: bool, over: bool) -> None:
    assert bool(silence.lost(a_ray_job(), [pod], NOW, begun=begun)) == over


@pytest.mark.parametrize(
    ("ray_job", "pods", "headless"),
    [
        pytest.param(a_ray_job(), [a_pod()], False, id="it is there"),
        pytest.param(a_ray_job(), [a_pod(labels=WORKER)], True, id="workers alone are"),
        pytest.param(a_ray_job("Initializing"), [], False, id="it is not there yet"),
        pytest.param(a_ray_job("Complete"), [], False, id="it was taken away at the end"),
        pytest.param(a_ray_job(cluster=""), [], False, id="there is no RayCluster"),
    ],
)
def test_whether_the_head_is_gone(ray_job: RayJobSeen, pods: list[PodSeen], headless: bool) -> None:
    assert silence.beheaded(ray_job, pods) == headless


# -- a whole life ------------------------------------------------------------------------


class Silent(World):
    """A world whose first attempt has its head on a node that falls silent."""

    @property
    def first(self) -> str:
        return str(self.of("FineTuneAttempt")[1]["metadata"]["name"])

    @property
    def head(self) -> dict[str, Any]:
        return self.objects["Pod", f"{self.first}-head"]

    @property
    def told(self) -> dict[str, Any]:
        status = self.of("FineTuneJob")[0]["status"]
        assert isinstance(status, dict)
        return status

    def begin(self) -> None:
        self.put("FineTuneJob", a_cluster_job())
        while self.training() is None:
            self.reconcile()
            self.prepare_pod_ends()
            self.kuberay_starts()
        self.progresses()
        self.touch(("RayJob", self.first), {"rayClusterName": CLUSTER})
        pod = self.objects.pop(("Pod", f"{self.first}-train"))
        pod["metadata"]["name"] = f"{self.first}-head"
        pod["metadata"]["labels"] |= HEAD
        pod["spec"] = {"nodeName": "node-7"}
        self.objects["Pod", f"{self.first}-head"] = pod
        self.reconcile()

    def _take_pods(self, attempt: str) -> None:
        """Of the pods on a silent node nobody does take one away."""
        stay = {key: pod for key, pod in self.objects.items() if _on_its_node(key[0], pod)}
        super()._take_pods(attempt)
        self.objects |= stay

    def falls_silent(self) -> None:
        self.head["status"]["conditions"] = [MARKED]

    def is_taken_off(self) -> None:
        self.head["metadata"]["deletionTimestamp"] = stamp(self.now + timedelta(seconds=20))
        self.head["status"]["conditions"] = [MARKED, TAKEN_OFF]


def _on_its_node(kind: str, found: dict[str, Any]) -> bool:
    return kind == "Pod" and found.get("spec", {}).get("nodeName") == "node-7"


@pytest.fixture
def world() -> Silent:
    found = Silent()
    found.begin()
    assert found.told["phase"] == "Running"
    return found


def test_the_node_is_named_and_the_job_goes_on_elsewhere(world: Silent) -> None:
    world.falls_silent()
    world.reconcile()
    assert world.told["phase"] == "Running"
    assert "node-7 is silent or not ready, with 1 of 1 pods" in world.told["message"]
    world.is_taken_off()
    world.waits()
    world.reconcile()
    assert world.told["phase"] == "Running", "40 s are no long time for a pod to end"
    world.waits()
    world.reconcile()
    assert ("RayJob", world.first) not in world.objects, "it would not end by itself"
    last = world.told["attempts"][-1]
    assert (last["number"], last["failure"]) == (1, "infrastructure")
    assert f"node-7 is silent: {world.first}-head was to end there" in last["message"]
    world.goes_on_to_its_end()
    assert world.told["phase"] == "Succeeded"
    assert [a["number"] for a in world.told["attempts"]] == [0, 1, 2]
    assert world.head["status"]["phase"] == "Running", "its node never came back"


def test_a_node_that_comes_back_in_time_is_forgotten(world: Silent) -> None:
    world.falls_silent()
    world.reconcile()
    world.head["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    world.reconcile()
    assert world.told["message"] == ""
    assert len(world.of("RayJob")) == 1


def test_a_late_word_of_an_attempt_that_was_given_up_changes_nothing(world: Silent) -> None:
    world.falls_silent()
    world.is_taken_off()
    while len(world.of("FineTuneAttempt")) < 3:
        world.waits()
        world.reconcile()
    given_up = world.told["attempts"][1]
    late = {"phase": "Succeeded", "step": 100, "bundle": {"uri": "s3://late", "digest": "sha256:l"}}
    world.touch(("FineTuneAttempt", world.first), {"result": late})
    world.reconcile()
    assert world.told["phase"] != "Succeeded"
    assert world.told["attempts"][1] == given_up
    world.goes_on_to_its_end()
    assert world.told["bundle"]["uri"] != "s3://late"


def test_pods_that_wait_for_a_silent_node_are_told_with_its_name(world: Silent) -> None:
    world.falls_silent()
    result = {"phase": "Failed", "failure": "infrastructure", "message": "a lost worker"}
    world.touch(("FineTuneAttempt", world.first), {"result": result})
    world.kuberay_cleans()
    world.reconcile()
    said = "when its 1 pods are gone, or were waited for long enough: node-7 is silent or not ready"
    assert said in world.told["message"]
    assert len(world.of("FineTuneAttempt")) == 2


@pytest.mark.parametrize("wish", ["suspend", "cancel"])
def test_a_stop_does_not_wait_for_a_driver_that_cannot_save(world: Silent, wish: str) -> None:
    world.falls_silent()
    world.wishes(**{wish: True})
    world.reconcile()
    assert "saving a checkpoint, then stopping; node-7 is silent" in world.told["message"]
    world.is_taken_off()
    for _ in range(3):
        world.waits()
        world.reconcile()
    assert world.told["phase"] == ("Suspended" if wish == "suspend" else "Stopped")
    assert world.told["attempts"][-1]["failure"] == "infrastructure"
    assert world.of("RayJob") == []
    if wish == "suspend":
        world.wishes(suspend=False)
        world.goes_on_to_its_end()
        assert world.told["phase"] == "Succeeded"


def test_a_head_that_vanished_with_its_node_is_not_waited_for_without_end(world: Silent) -> None:
    del world.objects["Pod", f"{world.first}-head"]
    world.reconcile()
    assert "its head is gone; its RayJob is about to end" in world.told["message"]
    world.reconcile()
    assert len(world.of("RayJob")) == 1
    world.waits()
    world.waits()
    world.reconcile()
    assert world.told["attempts"][-1]["failure"] == "infrastructure"
    world.goes_on_to_its_end()
    assert world.told["phase"] == "Succeeded"


def test_a_head_that_vanished_is_judged_by_what_its_rayjob_says_in_time(world: Silent) -> None:
    del world.objects["Pod", f"{world.first}-head"]
    world.reconcile()
    ended = stamp(world.now)
    status = {"jobDeploymentStatus": "Failed", "reason": "AppFailed", "endTime": ended}
    world.touch(("RayJob", world.first), status)
    world.waits()
    world.reconcile()
    assert "KubeRay: AppFailed" in world.told["attempts"][-1]["message"]
