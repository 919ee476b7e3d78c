"""The real operator believes the players: RayJobs live and end on a cluster without a node."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.players import Players
from tests.testbed.clusters import Cluster
from tests.testbed.ray_job import GOOD_LIFE, ray_job

PATIENCE = 120
Status = Callable[[], dict[str, Any]]


@pytest.fixture
def apply(kuberay: Cluster, namespace: str) -> Callable[[], None]:
    job = ray_job("pair", "localhost/none:1", "SidecarMode")
    return lambda: kuberay.apply(job, namespace=namespace)


@pytest.fixture
def status(kuberay: Cluster, namespace: str) -> Status:
    def read() -> dict[str, Any]:
        found = kuberay.kubectl("get", "rayjob", "pair", "-n", namespace, "--output=json")
        return dict(json.loads(found).get("status", {}))

    return read


def test_one_that_ends_well_lives_as_it_would_on_a_node(
    stage: Players, apply: Callable[[], None], status: Status
) -> None:
    apply()
    begun = _until(status, lambda s: s.get("jobStatus") == "RUNNING")
    assert len(stage.pods("ray.io/node-type=worker")) == 2
    stage.end_ray_job("pair", "SUCCEEDED")
    ended = _until(status, lambda s: s["jobDeploymentStatus"] == "Complete")
    assert [*dict.fromkeys(begun + ended)] == GOOD_LIFE
    assert status()["jobStatus"] == "SUCCEEDED"
    _until(status, lambda _: not stage.pods("ray.io/cluster"))


def test_a_driver_that_fails_is_told_with_its_message(
    stage: Players, apply: Callable[[], None], status: Status
) -> None:
    apply()
    _until(status, lambda s: s.get("jobStatus") == "RUNNING")
    stage.end_ray_job("pair", "FAILED", "exit code 3")
    _until(status, lambda s: s["jobDeploymentStatus"] == "Failed")
    assert _until_gone_quiet(status)["reason"] in ("AppFailed", "SubmissionFailed")


def test_held_pods_keep_it_from_running(
    stage: Players, apply: Callable[[], None], status: Status
) -> None:
    stage.hold()
    apply()
    _until(status, lambda _: len(stage.pods("ray.io/cluster")) == 3)
    time.sleep(4)  # a round of the operator's
    assert status()["jobDeploymentStatus"] == "Initializing"
    assert {pod["status"]["phase"] for pod in stage.pods("ray.io/cluster")} == {"Pending"}
    stage.let_go()
    _until(status, lambda s: s.get("jobStatus") == "RUNNING")


def _until(status: Status, done: Callable[[dict[str, Any]], bool]) -> list[str]:
    """How far KubeRay said it was, each once, until it was so far."""
    seen: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while True:
        found = status()
        stage = found.get("jobDeploymentStatus", "")
        if stage and stage not in seen:
            seen.append(stage)
        if done(found):
            return seen
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def _until_gone_quiet(status: Status) -> dict[str, Any]:
    before: dict[str, Any] = {}
    while (now := status()) != before:
        before = now
        time.sleep(1)
    return now
