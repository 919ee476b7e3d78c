"""What an attempt died of, read from its pods and its RayJob when the driver left no word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunefleet.api.words import FailureClass
from tunefleet.controller.jobs import evidence
from tunefleet.controller.seen import PodSeen, RayJobSeen


def a_pod(name: str = "p", **status: Any) -> PodSeen:
    body = {
        "metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1"},
        "spec": {"nodeName": "node-7"},
        "status": status,
    }
    return PodSeen.model_validate_json(json.dumps(body))


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason, "message": message}
    return {"containerStatuses": [{"name": "tunefleet", "state": {"terminated": terminated}}]}


def a_ray_job(**status: Any) -> RayJobSeen:
    body = {
        "metadata": {"name": "r", "namespace": "team", "uid": "r", "resourceVersion": "1"},
        "status": status,
    }
    return RayJobSeen.model_validate_json(json.dumps(body))


# As Kubernetes writes it for a kubelet that is silent: without a reason.
UNREADY = {"type": "Ready", "status": "False"}
FAILED = a_ray_job(jobDeploymentStatus="Failed", reason="AppFailed", message="driver: exit code 1")


@pytest.mark.parametrize(
    ("ray_job", "pods", "failure", "said"),
    [
        pytest.param(
            FAILED,
            [a_pod(**ended(137, "OOMKilled"))],
            FailureClass.OUT_OF_MEMORY,
            "p on node-7 used more memory than it may (OOMKilled); raise workers.resources.memory",
            id="memory ran out, and the kernel said so",
        ),
        pytest.param(
            FAILED,
            [a_pod("a", **ended(1)), a_pod("b", reason="Evicted", message="node was low on disk")],
            FailureClass.PREEMPTED,
            "b on node-7: node was low on disk",
            id="an eviction explains what died beside it",
        ),
        pytest.param(
            FAILED,
            [a_pod(**ended(137))],
            FailureClass.INFRASTRUCTURE,
            "p on node-7 was killed",
            id="killed by somebody",
        ),
        pytest.param(
            FAILED,
            [a_pod(**ended(1, message="a\nb\nTraceback\nValueError: no\n"))],
            FailureClass.UNKNOWN,
            "exit code 1: b | Traceback | ValueError: no",
            id="the end of its log is told",
        ),
        pytest.param(
            FAILED,
            [a_pod("a", **ended(1)), a_pod("b", phase="Running", conditions=[UNREADY])],
            FailureClass.INFRASTRUCTURE,
            "node-7 is silent or not ready, with b on it",
            id="a silent node explains what died because of it",
        ),
        pytest.param(
            FAILED,
            [a_pod(**ended(0, "Completed"))],
            FailureClass.UNKNOWN,
            "KubeRay: AppFailed: driver: exit code 1",
            id="pods that ended well tell nothing; KubeRay does",
        ),
        pytest.param(
            a_ray_job(jobDeploymentStatus="Failed", reason="JobStatusCheckTimeoutExceeded"),
            [],
            FailureClass.INFRASTRUCTURE,
            "KubeRay: JobStatusCheckTimeoutExceeded",
            id="the head was not reached",
        ),
        pytest.param(
            a_ray_job(jobDeploymentStatus="ValidationFailed", reason="ValidationFailed"),
            [],
            FailureClass.USER,
            "KubeRay: ValidationFailed",
            id="KubeRay refused it",
        ),
        pytest.param(
            None,
            [],
            FailureClass.INFRASTRUCTURE,
            "its RayJob was deleted",
            id="somebody deleted it",
        ),
    ],
)
def test_the_end_of_an_attempt(
    ray_job: RayJobSeen | None, pods: list[PodSeen], failure: FailureClass, said: str
) -> None:
    found = evidence.of_the_end(ray_job, pods)
    assert found.failure is failure
    assert said in found.message


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(
            {
                "containerStatuses": [
                    {
                        "name": "tunefleet",
                        "state": {
                            "waiting": {"reason": "ImagePullBackOff", "message": "no such image"}
                        },
                    }
                ]
            },
            "p: ImagePullBackOff: no such image",
            id="an image that cannot be pulled",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {
                        "name": "tunefleet",
                        "state": {
                            "waiting": {
                                "reason": "CreateContainerConfigError",
                                "message": 'secret "bucket" not found',
                            }
                        },
                    }
                ]
            },
            'p: CreateContainerConfigError: secret "bucket" not found',
            id="a secret that is missing",
        ),
        pytest.param(
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
                    }
                ]
            },
            "p: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
            id="no node has room",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    {"name": "tunefleet", "state": {"waiting": {"reason": "ContainerCreating"}}}
                ]
            },
            "",
            id="a pod that is just starting waits for nothing",
        ),
    ],
)
def test_what_a_pod_waits_for(status: dict[str, Any], said: str) -> None:
    assert evidence.waiting_for([a_pod(**status)]) == said


def test_pods_that_the_api_server_refuses_are_told_in_its_words() -> None:
    conditions = [
        {"type": "HeadPodReady", "status": "False", "message": "Head Pod not found"},
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: team"},
    ]
    assert a_ray_job(rayClusterStatus={"conditions": conditions}).refused_pods == (
        "exceeded quota: team"
    )
    assert FAILED.refused_pods == ""
